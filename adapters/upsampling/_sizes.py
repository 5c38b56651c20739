"""What the upsamplers ask of their arguments, and coarse maps on the fine grid, over any number of dimensions."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ranp.errors import UsageError, nearest
from ranp.kernels.reassembly_reference import source

DIMS = (1, 2, 3)
PerAxis = int | Sequence[int]


def conv(dims: int) -> type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]:
    """Return the convolution over so many spatial dimensions.

    Raises:
        UsageError: there is none.
    """
    if dims not in DIMS:
        raise UsageError(f"dims={dims!r}: expected 1, 2 or 3 spatial dimensions")
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]


def per_axis(value: PerAxis, dims: int, name: str) -> tuple[int, ...]:
    """Return one whole number per spatial dimension.

    Args:
        value: one for all of them, or one each.
        dims: how many there are.
        name: of the argument, for the message.

    Raises:
        UsageError: something else, or a number below 1.

    >>> per_axis(2, 3, "scale"), per_axis((1, 2, 2), 3, "scale")
    ((2, 2, 2), (1, 2, 2))
    """
    sizes = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    if len(sizes) != dims or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise UsageError(f"{name}={value!r}: expected a whole number of at least 1, or {dims} of them")
    return sizes


def odd(value: PerAxis, dims: int, name: str) -> tuple[int, ...]:
    """Return one odd number per spatial dimension, so that a kernel has a centre.

    Raises:
        UsageError: as `per_axis`, or an even number; the nearest odd ones are named.
    """
    sizes = per_axis(value, dims, name)
    even = next((size for size in sizes if size % 2 == 0), None)
    if even is not None:
        raise UsageError(f"{name}={value!r}: expected odd numbers, as {even - 1} or {even + 1} instead of {even}")
    return sizes


def check_features(decoder: Tensor, encoder: Tensor | None, scale: tuple[int, ...]) -> None:
    """Refuse features whose sizes are not a scale apart.

    An encoder that halves odd sizes rounds up or down, so that P fine positions belong to H coarse ones wherever
    |P - scale H| < scale.

    Args:
        decoder: (B, C, *coarse).
        encoder: (B, C', *fine), or None where an upsampler does without.
        scale: one per spatial dimension.

    Raises:
        UsageError: another number of dimensions, another batch, or sizes out of that range; the range is named.
    """
    dims = len(scale)
    for name, feature in (("decoder", decoder), ("encoder", encoder)):
        if feature is not None and feature.ndim != dims + 2:
            raise UsageError(f"{name}: expected (B, C, *{dims} sizes), got shape {tuple(feature.shape)}")
    if encoder is None or is_exporting():  # sizes are symbols then, and a comparison would fix them
        return
    if encoder.shape[0] != decoder.shape[0]:
        raise UsageError(f"encoder: expected the decoder's batch of {decoder.shape[0]}, got {encoder.shape[0]}")
    coarse, fine = decoder.shape[2:], encoder.shape[2:]
    if any(abs(p - s * h) >= s for p, s, h in zip(fine, scale, coarse, strict=True)):
        ranges = [(s * (h - 1) + 1, s * (h + 1) - 1) for s, h in zip(scale, coarse, strict=True)]
        expected = _by([f"{low}..{high}" if low < high else low for low, high in ranges])
        whole = all(p % h == 0 for p, h in zip(fine, coarse, strict=True))
        fitting = f"; scale={tuple(p // h for p, h in zip(fine, coarse, strict=True))} would fit" if whole else ""
        raise UsageError(
            f"encoder of size {_by(fine)} over a decoder of {_by(coarse)}: scale={scale} expects {expected}{fitting}"
        )


def _by(sizes: Iterable[object]) -> str:
    return " x ".join(map(str, sizes))


def check_word(name: str, word: str, known: Sequence[str]) -> None:
    """Refuse an unknown word.

    Raises:
        UsageError: naming the argument, the known words and the nearest.
    """
    if word not in known:
        raise UsageError(f"{name}={word!r}: expected one of {', '.join(known)}{nearest(str(word), known)}")


def is_exporting() -> bool:
    """Whether the network is being captured for ONNX or torch.export, which can't hold our own operator."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def upsample_nearest(coarse: Tensor, sizes: Sequence[int]) -> Tensor:
    """Bring (B, C, *coarse) to (B, C, *sizes): position p takes the value at floor(p coarse / fine), exactly.

    `F.interpolate` computes that in float32 and is one off now and then: from 2250 to 4499 positions, for one.

    >>> upsample_nearest(torch.tensor([[[1, 2]]]), [5])
    tensor([[[1, 1, 1, 2, 2]]])
    """
    for dim, fine in enumerate(sizes, 2):
        size = coarse.shape[dim]
        if not is_exporting() and fine % size == 0:
            coarse = coarse.repeat_interleave(fine // size, dim)
        else:
            coarse = coarse.index_select(dim, source(size, fine, coarse.device))
    return coarse
