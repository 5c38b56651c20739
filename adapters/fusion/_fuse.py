"""Join a segmentation network and superpixels: logits -> transparent stack -> logit consistency, one nn.Module.

Source: the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv 2010.04363). Both
pretrained networks stay trainable, each with its own learning rate; the stack changes nothing before the first step, so
the joint network starts as the segmenter with its logits averaged over superpixels. Where there is no superpixel
network, SLIC takes its place.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ranp.adapters.fusion._association import hard_assignment
from ranp.adapters.fusion._consistency import LogitConsistency, consistent_logits
from ranp.adapters.fusion._superpixels import GridSuperpixels, SlicSuperpixels
from ranp.adapters.transparent.activations import Activation
from ranp.adapters.transparent.init import Init
from ranp.adapters.transparent.probing import output_of, probed_channels, probed_output
from ranp.adapters.transparent.stack import TransparentStack, default_widths, fitting_bias_scale
from ranp.errors import UsageError, named

INTERVAL = 16
"""Pixels between the grid cells of a network that scores its neighbours, where it is not told (Yang et al., 2020)."""


class JointOutput(NamedTuple):
    """What both networks say about one image."""

    logits: Tensor
    """Consistent logits (B, C, ...), for the segmentation loss."""
    scores: Tensor
    """Associations (B, 3^n, ...), for `association_loss`."""


class FusedSegmenter(nn.Module):
    """Segmenter, transparent stack, superpixels and consistency in one: image -> consistent logits (B, C, ...).

    Args:
        segmenter: image -> logits (B, C, ...), of the image's spatial sizes.
        transparent: the stack on its logits.
        superpixels: image -> integer maps (B, ...).
        consistency: logits and maps -> logits.
    """

    def __init__(
        self, segmenter: nn.Module, transparent: nn.Module, superpixels: nn.Module, consistency: LogitConsistency
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.transparent = transparent
        self.superpixels = superpixels
        self.consistency = consistency

    def forward(self, image: Tensor, superpixels: Tensor | None = None) -> Tensor:
        """Return consistent logits (B, C, ...).

        Args:
            image: (B, channels, ...), the input of both networks.
            superpixels: maps (B, ...) to use in place of the embedded superpixels, as tracing and export like them.

        Raises:
            UsageError: maps of another size than the logits, maps that are not integers, or a segmenter that does not
                return one tensor.
        """
        logits = self.refined(image)
        if superpixels is not None:
            return self.consistency(logits, superpixels)  # type: ignore[no-any-return]
        maps = self.superpixels(image)
        if isinstance(self.superpixels, GridSuperpixels):
            return self._on_grid(logits, maps)
        if maps.is_floating_point():
            raise UsageError(
                f"superpixels: expected integer maps, received {maps.dtype}; scores of a grid need interval="
            )
        return self.consistency(logits, maps)  # type: ignore[no-any-return]

    @property
    def has_grid(self) -> bool:
        """Whether the superpixels come from a network with a grid, which `joint` and the association loss need."""
        return isinstance(self.superpixels, GridSuperpixels)

    def joint(self, image: Tensor) -> JointOutput:
        """Run both networks once, for a loss on each.

        Raises:
            UsageError: the superpixels do not come from a network with a grid.
        """
        if not isinstance(self.superpixels, GridSuperpixels):
            raise UsageError("joint: only superpixels of a grid (fuse(..., interval=)) have scores to train on")
        scores = self.superpixels.network(image)
        maps = hard_assignment(scores, self.superpixels.interval)
        return JointOutput(self._on_grid(self.refined(image), maps), scores)

    def refined(self, image: Tensor) -> Tensor:
        """Return the logits (B, C, ...) behind the stack and before consistency.

        Raises:
            UsageError: a segmenter that does not return one tensor.
        """
        logits = self.segmenter(image)
        if not isinstance(logits, Tensor):
            raise UsageError(f"segmenter: expected one tensor of logits, received a {type(logits).__name__}")
        return self.transparent(logits)  # type: ignore[no-any-return]

    def param_groups(self, networks: float = 1e-6, transparent: float = 1e-7) -> list[dict[str, Any]]:
        """Return optimizer groups with the paper's learning rates; a parameter of two parts is in the first one only.

        Args:
            networks: learning rate of the segmenter and of the superpixel network.
            transparent: learning rate of the stack.

        Returns:
            one dict of `name`, `params`, `lr` per part that has parameters.
        """
        rates = {"segmenter": networks, "superpixels": networks, "transparent": transparent}
        groups, seen = [], set[int]()
        for name, rate in rates.items():
            parameters = [p for p in self.get_submodule(name).parameters() if id(p) not in seen]
            seen.update(id(p) for p in parameters)
            if parameters:
                groups.append({"name": name, "params": parameters, "lr": rate})
        return groups

    def _on_grid(self, logits: Tensor, maps: Tensor) -> Tensor:
        assert isinstance(self.superpixels, GridSuperpixels)
        count = self.superpixels.count(tuple(maps.shape[1:]))
        return consistent_logits(logits, maps, count=count)


def fuse(
    segmenter: nn.Module,
    superpixels: nn.Module | None = None,
    *,
    classes: int | None = None,
    example: Tensor | None = None,
    interval: int | None = None,
    segments: int = 500,
    compactness: float = 0.1,
    depth: int = 3,
    widths: tuple[int, ...] | None = None,
    activation: Activation | None = None,
    init: Init = "orthonormal",
    bias_scale: float | None = None,
    count: int | None = None,
    ignore: int | None = None,
    seed: int = 0,
) -> FusedSegmenter:
    """Join a segmentation network with superpixels. The networks are taken in as they are, not copied.

    Args:
        segmenter: image -> logits (B, C, ...).
        superpixels: image -> integer maps (B, ...), or image -> scores (B, 3^n, ...) over a grid; None embeds SLIC.
        classes: C; where it is not given it is counted in one run on `example`, or on shapes alone.
        example: an image (B, channels, ...); it also sets `bias_scale`.
        interval: D of the superpixel network's grid, in pixels; `INTERVAL` where it returns scores and none is given.
        segments, compactness: of SLIC.
        depth: affine layers of the stack, where `widths` does not say it.
        widths, activation, init: of the stack, as in `TransparentStack`.
        bias_scale: as in `TransparentStack`; by default the smaller of 1 and the logits' root mean square on `example`,
            0.1 without one.
        count: where given superpixel maps hold labels 0 .. count - 1 only; see `consistent_logits`.
        ignore: label of pixels that keep their own logits.
        seed: of the stack.

    Raises:
        UsageError: classes nobody can tell, an `interval` without a network, superpixels that are neither integer maps
            nor scores of a grid, or what the stack refuses.
    """
    if interval is not None and superpixels is None:
        raise UsageError(
            f"{named('interval', interval)}: only a superpixel network has a grid; SLIC takes {named('segments')}"
        )
    logits = None if example is None else output_of(segmenter, segmenter, example, "segmenter")
    channels = _classes(segmenter, logits, classes)
    like = next((p for p in segmenter.parameters() if p.is_floating_point()), torch.empty(0))
    stack = TransparentStack(
        channels, default_widths(channels, depth) if widths is None else widths, activation, init=init,
        bias_scale=fitting_bias_scale(logits) if bias_scale is None else bias_scale,
        seed=seed, dtype=like.dtype, device=like.device,
    )  # fmt: skip
    source = SlicSuperpixels(segments, compactness) if superpixels is None else _source(superpixels, interval, example)
    return FusedSegmenter(segmenter, stack, source, LogitConsistency(count, ignore))


def _classes(segmenter: nn.Module, logits: Tensor | None, classes: int | None) -> int:
    if logits is None:
        count = classes if classes is not None else probed_channels(segmenter)
        if count is None:
            raise UsageError("classes: give classes= or example=, an image to count them on")
        return count
    if classes is not None and classes != logits.shape[1]:
        raise UsageError(f"{named('classes', classes)}: the segmenter returns {logits.shape[1]} channels")
    return logits.shape[1]


def _source(superpixels: nn.Module, interval: int | None, example: Tensor | None) -> nn.Module:
    """Return what makes maps: the module itself if it does, else the grid its scores are about."""
    if example is not None:
        seen: Tensor | None = output_of(superpixels, superpixels, example, "superpixels")
    else:
        seen = probed_output(superpixels)
    if seen is not None and not seen.is_floating_point():
        if interval is not None:
            raise UsageError(f"{named('interval', interval)}: the superpixels are integer maps, which have no grid")
        return superpixels
    if seen is not None and (seen.ndim < 3 or seen.shape[1] != 3 ** (seen.ndim - 2)):
        raise UsageError(
            "superpixels: expected integer maps (B, ...), or scores of the nearest cells of a grid (9 channels in 2D, "
            f"27 in 3D), received {seen.dtype} {tuple(seen.shape)}"
        )
    if seen is None and interval is None:  # no more is known before it runs
        return superpixels
    return GridSuperpixels(superpixels, INTERVAL if interval is None else interval)
