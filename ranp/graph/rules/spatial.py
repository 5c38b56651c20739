"""Ops over positions: pooling, resampling, padding, sampling, pixel shuffles. Channels pass through."""

import re
from math import prod
from typing import Any

import numpy as np

from ranp.graph.flow import FIXED, FREE, Flow, Ints, Shape, varying, vector_field
from ranp.graph.origins import Number, held_in
from ranp.graph.rules._sized import permuted, reshaped
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind, Places
from ranp.graph.trace import Trace, like_input

POOLS = [
    f"{prefix}{kind}_pool{n}d"
    for n in (1, 2, 3)
    for prefix, kind in (("", "avg"), ("", "max"), ("", "adaptive_avg"), ("_", "adaptive_avg"), ("", "adaptive_max"))
]
POOLS += [f"max_pool{n}d_with_indices" for n in (1, 2, 3)] + [f"fractional_max_pool{n}d" for n in (2, 3)]
RESAMPLES = [
    f"{prefix}upsample_{mode}{suffix}"
    for mode in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "trilinear3d", "bicubic2d")
    for prefix in ("", "_")
    for suffix in ("", "_aa")
] + [f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)]
PADS = [f"{mode}_pad{n}d" for mode in ("reflection", "replication") for n in (1, 2, 3)]


def over_positions(op: Op, trace: Trace, flow: Flow, count: int) -> list[Flow]:
    """Return a flow for each result, with its last `count` dimensions resized and without fields over them."""
    first = len(flow.shape) - count
    settled = trace.settle(flow, range(first, len(flow.shape)), f"position in {op.where}")
    fixed = settled.fixed[:first] + (True,) * count
    return [Flow(tuple(r.shape), settled.fields, fixed, settled.roots) for r in op.results]


@rule(*POOLS, kind=Kind.POOL, results=1)
def pooled(op: Op, trace: Trace) -> list[Flow]:
    """Pool the last dimensions; max-pool indices carry the channels they were found in."""
    return positions(op, trace)


@rule(*RESAMPLES, kind=Kind.RESAMPLING)
def resampled(op: Op, trace: Trace) -> list[Flow]:
    """Resample the last dimensions."""
    return positions(op, trace)


@rule(*PADS, kind=Kind.MOVE)
def positions(op: Op, trace: Trace) -> list[Flow]:
    """Change the last dimensions, as many as the name says."""
    match = re.search(r"(\d)d", op.name)
    assert match
    return over_positions(op, trace, trace.flow(op["self"]), int(match.group(1)))


@rule("max_unpool2d", "max_unpool3d", kind=Kind.MOVE)
def unpool(op: Op, trace: Trace) -> list[Flow]:
    """Put values back where indices say: values and indices carry the same channels."""
    flows = [trace.flow(op["self"]), trace.flow(op["indices"])]
    both = trace.merge(flows, flows[0].shape, f"meets a fixed dimension in {op.where}")
    return over_positions(op, trace, both, int(op.name[-2]))


def _place_of_pad(arguments: dict[str, Any], shape: Shape) -> Places:
    pad = arguments["pad"]
    return {len(shape) - 1 - index: tuple(pad[2 * index : 2 * index + 2]) for index in range(len(pad) // 2)}


@rule("constant_pad_nd", "pad", kind=Kind.MOVE, places=_place_of_pad)
def constant_pad(op: Op, trace: Trace) -> Flow:
    """Pad with a constant; padded channels are free, zero widths change nothing.

    Where channels lie over other dimensions too, as a pixel shuffle of a 1 x 1 map lays them, they are tied along the
    padded one: what is padded there is a row of positions.
    """
    flow, shape = trace.flow(op["self"]), op.shape()
    widths = [(0, 0)] * len(shape)
    for index in range(len(op["pad"]) // 2):
        widths[len(shape) - 1 - index] = op["pad"][2 * index], op["pad"][2 * index + 1]
    padded = [dim for dim, width in enumerate(widths) if width != (0, 0)]
    many = [field for field in flow.fields if len(varying(field)) > 1]
    few = [field for field in flow.fields if len(varying(field)) == 1]
    fields = []
    for field in [*few, *trace.settle(flow.with_fields(many), padded, f"position in {op.where}").fields]:
        low = [(max(a, 0), max(b, 0)) if field.shape[d] > 1 else (0, 0) for d, (a, b) in enumerate(widths)]
        for dim, (before, after) in enumerate(widths):
            if field.shape[dim] > 1 and (before < 0 or after < 0):
                field = field.take(range(max(-before, 0), field.shape[dim] - max(-after, 0)), axis=dim)
        fields.append(_padded(op, trace, field, low))
    fixed = tuple(
        f or (w != (0, 0) and not flow.over(d)) for d, (f, w) in enumerate(zip(flow.fixed, widths, strict=True))
    )
    return Flow(shape, (), fixed, flow.roots).with_fields(fields)


def _padded(op: Op, trace: Trace, field: Ints, widths: list[tuple[int, int]]) -> Ints:
    """Return a field with channels of zeros beside it: as many as are written, or as a number that is marked says."""
    call = op.asked if op.asked is not None and op.asked.name == "pad" else None
    given = list(call.argument(1, "pad")) if call is not None else []
    for dim, width in enumerate(widths):
        for behind, count in enumerate(width):
            if not count:
                continue
            place = 2 * (len(widths) - 1 - dim) + behind
            asked = call.told(given[place]) if call is not None and place < len(given) else None
            if isinstance(asked, Number) and held_in(asked):
                zeros = trace.shadow(count)
                trace.follow(zeros, asked)
            else:
                zeros = np.full(count, FREE if asked is None or isinstance(asked, Number) else FIXED)
            sizes = [count if axis == dim else n for axis, n in enumerate(field.shape)]
            beside = np.broadcast_to(vector_field(zeros, dim, field.ndim), sizes)
            field = np.concatenate([field, beside] if behind else [beside, field], axis=dim)
    return field


@rule(
    *("grid_sampler_2d", "grid_sampler_3d", "grid_sampler", "_grid_sampler_2d_cpu_fallback", "cudnn_grid_sampler"),
    kind=Kind.RESAMPLING,
)
def grid_sample(op: Op, trace: Trace) -> Flow:
    """Sample features at coordinates: the features' channels pass, the grid's coordinates are frozen."""
    flow, grid = trace.flow(op["input"]), trace.flow(op["grid"])
    trace.freeze_flow(grid, f"coordinates of {op.where}")
    return over_positions(op, trace, flow, len(flow.shape) - 2)[0]


@rule("torchvision::nms", kind=Kind.OTHER)
def suppressed(op: Op, trace: Trace) -> Flow:
    """Numbers of boxes (N, 4) that stay: their coordinates and scores are no channels."""
    for name in ("dets", "scores"):
        trace.freeze_flow(trace.flow(op[name]), f"boxes of {op.where}")
    return like_input(op.shape())


@rule("torchvision::roi_align", "torchvision::roi_pool", kind=Kind.RESAMPLING)
def pooled_in_boxes(op: Op, trace: Trace) -> list[Flow]:
    """Sample features (B, C, H, W) in boxes (N, 5) as (N, C, h, w): channels pass, boxes and samples stay."""
    trace.freeze_flow(trace.flow(op["rois"]), f"boxes of {op.where}")
    flow = trace.settle(trace.flow(op["input"]), (0, 2, 3), f"position in {op.where}")
    fixed = (True, flow.fixed[1], True, True)
    return [Flow(tuple(result.shape), flow.fields, fixed, None) for result in op.results]


@rule("pixel_shuffle", kind=Kind.MOVE)
def pixel_shuffle(op: Op, trace: Trace) -> Flow:
    """(..., C r r, H, W) -> (..., C, r H, r W): the r r channels of one output live and die together."""
    flow, factor = trace.flow(op["self"]), op["upscale_factor"]
    *batch, channels, height, width = flow.shape
    split = reshaped(trace, flow, (*batch, channels // factor**2, factor, factor, height, width))
    n = len(batch)
    mixed = permuted(split, [*range(n), n, n + 3, n + 1, n + 4, n + 2])
    return reshaped(trace, trace.settle(mixed, [n + 2, n + 4], f"position in {op.where}"), op.shape())


@rule("pixel_unshuffle", kind=Kind.MOVE)
def pixel_unshuffle(op: Op, trace: Trace) -> Flow:
    """(..., C, r H, r W) -> (..., C r r, H, W)."""
    flow, factor = trace.flow(op["self"]), op["downscale_factor"]
    *batch, channels, height, width = flow.shape
    split = reshaped(trace, flow, (*batch, channels, height // factor, factor, width // factor, factor))
    n = len(batch)
    return reshaped(trace, permuted(split, [*range(n), n, n + 2, n + 4, n + 1, n + 3]), op.shape())


@rule("channel_shuffle", "native_channel_shuffle", kind=Kind.MOVE)
def channel_shuffle(op: Op, trace: Trace) -> Flow:
    """(B, g c, ...) -> (B, c g, ...): the g channels that come to stand together live and die together."""
    flow, groups = trace.flow(op["self"]), op["groups"]
    batch, channels, *rest = flow.shape
    split = reshaped(trace, flow, (batch, groups, channels // groups, *rest))
    split = trace.settle(split, [1], f"position in {op.where}")
    return reshaped(trace, permuted(split, [0, 2, 1, *range(3, len(split.shape))]), op.shape())


@rule("im2col", kind=Kind.MOVE)
def im2col(op: Op, trace: Trace) -> Flow:
    """(B, C, H, W) -> (B, C k k, L): each channel stands for its k k neighbours."""
    flow = trace.flow(op["self"])
    flow = trace.settle(flow, range(len(flow.shape) - 2, len(flow.shape)), f"position in {op.where}")
    dim, times = len(flow.shape) - 3, int(np.prod(op["kernel_size"]))
    fields = [np.repeat(f, times, axis=dim)[..., 0] if f.shape[dim] > 1 else f[..., 0] for f in flow.fields]
    return Flow(op.shape(), tuple(fields), flow.fixed[:-1], flow.roots)


@rule("col2im", kind=Kind.REDUCTION)
def col2im(op: Op, trace: Trace) -> Flow:
    """(B, C k k, L) -> (B, C, H, W): the k k neighbours of one channel live and die together."""
    flow, times = trace.flow(op["self"]), prod(op["kernel_size"])
    *batch, channels, places = flow.shape
    split = reshaped(trace, flow, (*batch, channels // times, times, places))
    settled = trace.settle(split, [len(batch) + 1, len(batch) + 2], f"position in {op.where}")
    fields = tuple(field.reshape(*field.shape[: len(batch) + 1], 1, 1) for field in settled.fields)
    return Flow(op.shape(), fields, (*settled.fixed[: len(batch) + 1], True, True), flow.roots)


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c", kind=Kind.FOURIER)
def fourier(op: Op, trace: Trace) -> Flow:
    """Transform some dimensions: they are positions, the others pass."""
    flow = trace.flow(op["self"])
    dims = [dim % len(flow.shape) for dim in op["dim"]]
    settled = trace.settle(flow, dims, f"position in {op.where}").fixing(dims)
    return Flow(op.shape(), settled.fields, settled.fixed, flow.roots)


@rule("view_as_real", "view_as_complex", kind=Kind.VIEW)
def complex_view(op: Op, trace: Trace) -> Flow:
    """Real and imaginary parts as a last dimension of two, or back."""
    flow, shape = trace.flow(op["self"]), op.shape()
    if len(shape) > len(flow.shape):
        return Flow(shape, tuple(field[..., None] for field in flow.fields), (*flow.fixed, True), flow.roots)
    last = len(flow.shape) - 1
    settled = trace.settle(flow, [last], f"real and imaginary part in {op.where}")
    return Flow(shape, tuple(field[..., 0] for field in settled.fields), settled.fixed[:-1], flow.roots)


@rule("unfold", kind=Kind.VIEW)
def unfold(op: Op, trace: Trace) -> Flow:
    """Sliding windows over one dimension, which goes to the end."""
    flow, dim = trace.flow(op["self"]), op["dimension"] % op["self"].ndim
    settled = trace.settle(flow, [dim], f"position in {op.where}")
    fields = tuple(field[..., None] for field in settled.fields)
    return Flow(op.shape(), fields, (*settled.fixed[:dim], True, *settled.fixed[dim + 1 :], True), flow.roots)
