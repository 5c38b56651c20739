"""Pairwise costs V(a, b) of two neighbouring labels: by name, as a function of d = |a - b|, or as a matrix.

A function that stays constant from some distance on has a `window`, which lets the kernels look at the labels within it
only. The result is the same to the last bit: rounding is monotone, so the minimum over the labels outside the window is
that of the source costs plus the constant.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ranp.errors import UsageError, nearest

Curve = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Pairwise:
    """A named function of the label distance d = |a - b|.

    Args:
        name: one of `potts`, `linear`, `truncated_linear`, `truncated_quadratic`, `cauchy`, `huber`.
        parameter: the truncation t or the scale s; the functions without one ignore it.
    """

    name: str
    parameter: float = 1.0

    def matrix(
        self, labels: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Tensor:
        """Return V as an (L, L) tensor, computed in float64 and rounded once."""
        index = torch.arange(labels, dtype=torch.float64, device=device)
        distance = (index[:, None] - index[None, :]).abs()  # (L, L)
        return _CURVES[self.name](distance, self.parameter).to(dtype)

    def window(self, labels: int) -> int:
        """Return the smallest distance from which V is constant, or 0 where so many labels do not reach it."""
        reach = {"potts": 1.0, "truncated_linear": self.parameter, "truncated_quadratic": math.sqrt(self.parameter)}
        window = math.ceil(reach[self.name]) if self.name in reach else labels
        return window if window < labels else 0


def _huber(d: Tensor, s: float) -> Tensor:
    return torch.where(d <= s, d * d / 2, s * (d - s / 2))


_CURVES: dict[str, Curve] = {
    "potts": lambda d, _: (d > 0).to(d.dtype),
    "linear": lambda d, _: d,
    "truncated_linear": lambda d, t: d.clamp(max=t),
    "truncated_quadratic": lambda d, t: (d * d).clamp(max=t),
    "cauchy": lambda d, s: s * s / 2 * torch.log1p((d / s) ** 2),
    "huber": _huber,
}


def _scaled(name: str, symbol: str, value: float) -> Pairwise:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise UsageError(f"{name}({symbol}={value!r}): expected a positive number")
    return Pairwise(name, float(value))


def potts() -> Pairwise:
    """V = 0 for equal labels and 1 otherwise."""
    return Pairwise("potts")


def linear() -> Pairwise:
    """V = d."""
    return Pairwise("linear")


def truncated_linear(t: float = 2.0) -> Pairwise:
    """V = min(d, t)."""
    return _scaled("truncated_linear", "t", t)


def truncated_quadratic(t: float = 4.0) -> Pairwise:
    """V = min(d^2, t)."""
    return _scaled("truncated_quadratic", "t", t)


def cauchy(s: float = 1.0) -> Pairwise:
    """V = s^2 / 2 log(1 + (d / s)^2)."""
    return _scaled("cauchy", "s", s)


def huber(s: float = 1.0) -> Pairwise:
    """V = d^2 / 2 up to d = s, and s (d - s / 2) beyond."""
    return _scaled("huber", "s", s)


def resolve(pairwise: str | Pairwise | Tensor, labels: int, like: Tensor) -> tuple[Tensor, int]:
    """Return V as an (L, L) tensor of the dtype and device of `like`, and its window (0: none is known).

    Args:
        pairwise: a name (with its default parameter), a `Pairwise`, or an (L, L) tensor, which may need gradients.
        labels: L.
        like: the unary costs.

    Raises:
        UsageError: an unknown name, a matrix of another size, or one on another device.
    """
    if isinstance(pairwise, str):
        if pairwise not in _CURVES:
            known = ", ".join(_CURVES)
            raise UsageError(f"pairwise={pairwise!r}: expected one of {known}{nearest(pairwise, _CURVES)}")
        pairwise = _DEFAULTS[pairwise]
    if isinstance(pairwise, Pairwise):
        return pairwise.matrix(labels, like.dtype, like.device), pairwise.window(labels)
    if not isinstance(pairwise, Tensor):
        raise UsageError(f"pairwise: expected a name, a Pairwise or an (L, L) tensor, got {type(pairwise).__name__}")
    if pairwise.shape != (labels, labels):
        expected = f"({labels}, {labels}), one row per label"
        raise UsageError(f"pairwise: expected a matrix of shape {expected}, got {tuple(pairwise.shape)}")
    if pairwise.device != like.device:
        raise UsageError(f"pairwise is on {pairwise.device}, but unary is on {like.device}: expected one device")
    return pairwise.to(like.dtype), 0


_DEFAULTS = {function().name: function() for function in (potts, linear, truncated_linear, truncated_quadratic)}
_DEFAULTS |= {function().name: function() for function in (cauchy, huber)}
