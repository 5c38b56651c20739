"""The way down and up of networks that unpool: maxima go back to the places they came from (SegNet, DeconvNet)."""

from collections.abc import Iterable

from torch import Size, Tensor, nn

Place = tuple[Tensor, Size]
"""Where the maxima of a stage were, and the spatial size of what they were taken from."""


def pooled(stages: Iterable[nn.Module], pool: nn.Module, x: Tensor) -> tuple[Tensor, list[Place]]:
    """Return what stages, each pooled with its indices, make of (B, C, *spatial), and the places, finest first."""
    places = []
    for stage in stages:
        full = stage(x)
        x, indices = pool(full)
        places.append((indices, full.shape[2:]))
    return x, places


def unpooled(stages: Iterable[nn.Module], unpool: nn.Module, x: Tensor, places: list[Place]) -> Tensor:
    """Return what stages, each behind an unpooling to the last of the places, make of (B, C, *spatial)."""
    for stage, (indices, size) in zip(stages, reversed(places), strict=True):
        x = stage(unpool(x, indices, output_size=size))
    return x
