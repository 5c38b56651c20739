"""Poolings in plain PyTorch, forward and backward, by loops over the k^n elements of a window.

Each kind is a pair of functions. Both take the input x (B, C, *spatial) of any floating type, the kind's own tensors,
which broadcast against the output, and the windows; the backward begins with the gradient of the output, and recomputes
what the forward knew. So nothing is kept between them but the inputs, and no window is ever copied: what is alive at
once are a few tensors of the output's size. Types narrower than float32 are computed in float32, element by element.

The forms are chosen for float32: every quantity is taken relative to the largest of its window, so that no power
overflows, and 1 - x / max instead of x, so that nothing cancels where a window's elements are close to each other.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.kernels.windows import Windows

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
STEEPEST = 1e30
"""Exponents are cut here: every smaller element has lost all weight long before, and infinity times 0 is no number."""
FLOOR = 1e-3
"""Added to the squared distances of detail-preserving pooling (the official implementations' epsilon)."""


def wide(x: Tensor) -> torch.dtype:
    """Return the type that `x` is computed in."""
    return torch.promote_types(x.dtype, torch.float32)


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the layout of an output: channels last where the input's channels are, otherwise contiguous."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if last is None or x.is_contiguous() or not x.is_contiguous(memory_format=last):
        return torch.contiguous_format
    return last


class Relative(NamedTuple):
    """The elements of every window relative to its largest.

    Args:
        top: (B, C, *counts), the largest less the shift, 0 where that is negative.
        scale: the same, 1 where it is 0.
        counts: windows along each dimension.
        padded: the input with all windows inside.
        inside: where each tap lies in the input.
        shift: (B, C, *1) or None, taken off every element.
    """

    top: Tensor
    scale: Tensor
    counts: list[int]
    padded: Tensor
    inside: list[Tensor] | list[None]
    shift: Tensor | None

    def taps(self, windows: Windows) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield each tap's elements as shares of the largest, (B, C, *counts) from 0 to 1, and where they count."""
        for tap, counted in zip(windows.taps(self.padded, self.counts), self.inside, strict=True):
            x = tap.to(self.top.dtype)
            yield only(counted, (x if self.shift is None else x - self.shift) / self.scale), counted


def relative(x: Tensor, shift: Tensor | None, windows: Windows) -> Relative:
    """Return `x` relative to the largest element of each window; it must not be negative where it is not shifted."""
    counts = windows.counts(x.shape[2:])
    largest = MAX_POOL[windows.dims](x, *windows.settings).to(wide(x))
    shift = None if shift is None else shift.to(wide(x))
    top = (largest if shift is None else largest - shift).clamp(min=0)  # no element at all: -inf
    scale = torch.where(top > 0, top, torch.ones_like(top))
    return Relative(top, scale, counts, windows.padded(x), windows.inside(x, counts), shift)


def only(counted: Tensor | None, values: Tensor) -> Tensor:
    """Return values where they count and 0 elsewhere."""
    return values if counted is None else torch.where(counted, values, values.new_zeros(()))


# Polynomial pooling: y = sum x^(a+1) / sum x^a.


def p_pool(x: Tensor, alpha: Tensor, shift: Tensor | None, windows: Windows) -> Tensor:
    """Return sum x^(alpha+1) / sum x^alpha over each window, (B, C, *counts); 0 where all elements are 0.

    Args:
        x: not negative once `shift` (B, C, *1) is taken off; the result has it added again.
        alpha: from 0 to infinity, broadcasts against the output.
        shift: or None.
        windows: at least one along each dimension.
    """
    parts = relative(x, shift, windows)
    _, fall = _weights(parts, alpha.to(wide(x)).clamp(max=STEEPEST), windows)
    y = parts.top * (1 - fall)
    return _like(y if parts.shift is None else y + parts.shift, x)


def p_pool_backward(
    grad: Tensor, x: Tensor, alpha: Tensor, shift: Tensor | None, windows: Windows, needs: Sequence[bool]
) -> tuple[Tensor, Tensor | None, None]:
    """Return the gradients of x and, where needed, of alpha; the shift has none.

    With r = x / max, w = r^alpha, S = sum w, d = sum w (1 - r) / S = 1 - y / max:

        dy/dx = [w + alpha (d - (1 - r)) w / r] / S,      dy/dalpha = max / S  sum w log r (d - (1 - r))

    An element that is 0 has no gradient unless alpha is 0, when it has the mean's; nor has alpha from one.
    """
    parts, exponent = relative(x, shift, windows), alpha.to(wide(x)).clamp(max=STEEPEST)
    total, fall = _weights(parts, exponent, windows)
    scaled = grad.to(wide(x)) / total
    of_x = torch.zeros_like(parts.padded, dtype=wide(x))
    of_alpha = torch.zeros_like(fall) if needs[1] else None
    zero = fall.new_zeros(())
    for (share, counted), into in zip(parts.taps(windows), windows.taps(of_x, parts.counts), strict=True):
        weight = only(counted, share.pow(exponent))
        ahead = fall - (1 - share)  # (x - y) / max
        slope = torch.where(share > 0, weight / share, zero)
        into += scaled * (weight + exponent * ahead * slope)
        if of_alpha is not None:
            of_alpha += weight * torch.where(share > 0, share.log(), zero) * ahead
    if of_alpha is not None:
        of_alpha = (of_alpha * parts.top * scaled).sum_to_size(alpha.shape).to(alpha.dtype)
    return _like(windows.cropped(of_x, x), x), of_alpha, None


def _weights(parts: Relative, exponent: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return sum r^a, at least 1, and 1 - y / max of each window, (B, C, *counts)."""
    total, fall = torch.zeros_like(parts.top), torch.zeros_like(parts.top)
    for share, counted in parts.taps(windows):
        weight = only(counted, share.pow(exponent))
        total += weight
        fall += weight * (1 - share)
    total = total.clamp(min=1)  # the largest element weighs 1, unless all are 0
    return total, fall / total


def _like(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.dtype).contiguous(memory_format=memory_format(x))


# Lp pooling: y = (sum x^p)^(1/p), or of the mean.


def lp_pool(x: Tensor, power: Tensor, mean: bool, windows: Windows) -> Tensor:
    """Return (sum x^p)^(1/p) over each window, or the power mean (mean x^p)^(1/p); (B, C, *counts).

    Args:
        x: not negative.
        power: p > 0, broadcasts against the output.
        mean: whether to divide by the number of elements.
        windows: at least one along each dimension.
    """
    parts, exponent = relative(x, None, windows), power.to(wide(x)).clamp(max=STEEPEST)
    total, count, _ = _power_sums(parts, exponent, windows, logs=False)
    return _like(parts.top * (total / count if mean else total).pow(1 / exponent), x)


def lp_pool_backward(
    grad: Tensor, x: Tensor, power: Tensor, mean: bool, windows: Windows, needs: Sequence[bool]
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of x and, where needed, of p.

    With r = x / max, s = sum r^p, divided by N for the mean:

        dy/dx = r^(p-1) s^(1/p-1) [/ N],      dy/dp = y / p [sum r^p log r / sum r^p - log s / p]

    An element that is 0 has no gradient for p < 1, where it has none that is finite.
    """
    parts, exponent = relative(x, None, windows), power.to(wide(x)).clamp(max=STEEPEST)
    total, count, logs = _power_sums(parts, exponent, windows, logs=needs[1])
    level = total / count if mean else total
    common = grad.to(wide(x)) * level.pow(1 / exponent - 1) / (count if mean else 1)
    of_x = torch.zeros_like(parts.padded, dtype=wide(x))
    below = exponent < 1
    for (share, counted), into in zip(parts.taps(windows), windows.taps(of_x, parts.counts), strict=True):
        slope = torch.where(below & (share == 0), share, share.pow(exponent - 1))
        into += only(counted, common * slope)
    of_power = None
    if needs[1]:
        y = parts.top * level.pow(1 / exponent)
        slope = y / exponent * (logs / total - level.log() / exponent)
        of_power = (grad.to(wide(x)) * slope).sum_to_size(power.shape).to(power.dtype)
    return _like(windows.cropped(of_x, x), x), of_power


def _power_sums(parts: Relative, exponent: Tensor, windows: Windows, *, logs: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return sum r^p, at least 1, how many elements count, at least 1, and where wanted sum r^p log r."""
    total, of_logs = torch.zeros_like(parts.top), torch.zeros_like(parts.top)
    for share, counted in parts.taps(windows):
        weight = only(counted, share.pow(exponent))
        total += weight
        if logs:
            of_logs += weight * torch.where(share > 0, share.log(), share)
    return total.clamp(min=1), count_of(parts.inside, total), of_logs


def count_of(inside: list[Tensor] | list[None], like: Tensor) -> Tensor:
    """Return how many elements each window holds, at least 1, (*counts) or a number in a tensor."""
    if inside[0] is None:
        return torch.full((), len(inside), dtype=like.dtype, device=like.device)
    return torch.stack([tap.to(like.dtype) for tap in inside if tap is not None]).sum(0).clamp(min=1)


# Detail-preserving pooling: y = sum w x / sum w,
# w = offset + (q / mean q)^(strength / 2), q = f(x - reference)^2 + FLOOR.


class Distances(NamedTuple):
    """What the weights of detail-preserving pooling are made of, each (B, C, *counts) unless said otherwise.

    Args:
        padded: the input with all windows inside.
        inside: where each tap lies in the input.
        counts: windows along each dimension.
        elements: of a window, (*counts) or a number.
        reference: what the elements are compared with.
        mean: of q.
        largest: of q.
    """

    padded: Tensor
    inside: list[Tensor] | list[None]
    counts: list[int]
    elements: Tensor
    reference: Tensor
    mean: Tensor
    largest: Tensor

    def taps(self, windows: Windows, asymmetric: bool) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Yield each tap's x - reference, what of it f lets through, its q, and where it counts."""
        for tap, counted in zip(windows.taps(self.padded, self.counts), self.inside, strict=True):
            apart = tap.to(self.reference.dtype) - self.reference
            passed = apart.clamp(min=0) if asymmetric else apart
            yield apart, passed, passed.square() + FLOOR, counted


def distances(x: Tensor, reference: Tensor | None, asymmetric: bool, windows: Windows) -> Distances:
    """Compare the elements of each window with a reference (B, C, *counts), the window's mean by default."""
    counts = windows.counts(x.shape[2:])
    padded, inside = windows.padded(x), windows.inside(x, counts)
    if reference is None:
        total = x.new_zeros((*x.shape[:2], *counts), dtype=wide(x))
        count = count_of(inside, total)
        for tap in windows.taps(padded, counts):  # what lies outside is 0
            total += tap
        reference = total / count
    else:
        reference = reference.to(wide(x))
        count = count_of(inside, reference)
        if windows.leaves_input:  # of no element the result is 0, not the reference
            reference = only(torch.stack([tap for tap in inside if tap is not None]).any(0), reference)
    empty = torch.zeros_like(reference)
    parts = Distances(padded, inside, counts, count, reference, empty, empty)
    mean, largest = torch.zeros_like(empty), torch.full_like(empty, FLOOR)
    for _, _, square, counted in parts.taps(windows, asymmetric):
        kept = only(counted, square)
        mean += kept
        largest = torch.maximum(largest, kept)
    return parts._replace(mean=(mean / count).clamp(min=FLOOR), largest=largest)


def dpp_pool(
    x: Tensor, reference: Tensor | None, strength: Tensor, offset: Tensor, asymmetric: bool, windows: Windows
) -> Tensor:
    """Return sum w x / sum w over each window, (B, C, *counts).

    Args:
        x: of any sign.
        reference: (B, C, *counts), or None for the mean of the window.
        strength: lambda >= 0, broadcasts against the output.
        offset: alpha >= 0, likewise.
        asymmetric: whether only elements above the reference gain weight.
        windows: at least one along each dimension.
    """
    parts = distances(x, reference, asymmetric, windows)
    _, _, _, y = _detail(parts, strength.to(wide(x)) / 2, offset.to(wide(x)), asymmetric, windows)
    return _like(parts.reference + y, x)


def _detail(
    parts: Distances, half: Tensor, offset: Tensor, asymmetric: bool, windows: Windows
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights' factor, the offset times it, the sum of the weights, and y - reference.

    Weights are multiplied by (mean q / max q)^(strength / 2), so that the largest q has the weight 1 + offset.
    """
    factor = (parts.mean / parts.largest).pow(half)
    raised = offset * factor
    total, moved = torch.zeros_like(parts.mean), torch.zeros_like(parts.mean)
    for apart, _, square, counted in parts.taps(windows, asymmetric):
        weight = only(counted, raised + (square / parts.largest).pow(half))
        total += weight
        moved += weight * apart
    total = torch.where(total > 0, total, torch.ones_like(total))
    return factor, raised, total, moved / total


def dpp_pool_backward(
    grad: Tensor,
    x: Tensor,
    reference: Tensor | None,
    strength: Tensor,
    offset: Tensor,
    asymmetric: bool,
    windows: Windows,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Return the gradients of x, of the reference where there is one, of the strength and of the offset.

    With h = strength / 2, p = (q / mean q)^h, W = sum w, A = sum (x - y) p / W, f the passed part of x - reference:

        v = 2 f h [(x - y) p / (W q) - A / (N mean q)]      is dy/dx by way of q
        dy/dx = w / W + v,      dy/dreference = -sum v,      and the mean's share of that goes back to every x
        dy/dstrength = sum (x - y) p log(q / mean q) / (2 W),      dy/doffset = sum (x - y) / W
    """
    parts = distances(x, reference, asymmetric, windows)
    half = strength.to(wide(x)) / 2
    factor, raised, total, moved = _detail(parts, half, offset.to(wide(x)), asymmetric, windows)
    spread, steep, slopes, logs, apartness = (torch.zeros_like(total) for _ in range(5))
    for apart, passed, square, counted in parts.taps(windows, asymmetric):
        beyond = apart - moved  # x - y
        share = only(counted, beyond * (square / parts.largest).pow(half) / total)
        spread += share
        steep += share * 2 * passed / square
        slopes += only(counted, 2 * passed)
        logs += share * (square / parts.mean).log()
        apartness += only(counted, beyond)
    evened = spread / (parts.elements * parts.mean)
    through = half * (steep - evened * slopes)  # sum v
    grad = grad.to(wide(x))
    back = through / parts.elements if reference is None else torch.zeros_like(through)
    of_x = torch.zeros_like(parts.padded, dtype=wide(x))
    into = windows.taps(of_x, parts.counts)
    for (apart, passed, square, counted), place in zip(parts.taps(windows, asymmetric), into, strict=True):
        power = (square / parts.largest).pow(half)
        by_q = 2 * passed * half * ((apart - moved) * power / (total * square) - evened)
        place += only(counted, grad * ((raised + power) / total + by_q - back))
    return (
        _like(windows.cropped(of_x, x), x),
        None if reference is None else _like(-grad * through, reference),
        (grad * logs / 2).sum_to_size(strength.shape).to(strength.dtype),
        (grad * factor * apartness / total).sum_to_size(offset.shape).to(offset.dtype),
    )
