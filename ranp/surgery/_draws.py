"""Let two networks draw the same random numbers, though one of them has fewer channels.

A sampled latent code, a dropout that stays on, a random mask: PyTorch fills memory in its own order, so that the same
seed gives other numbers to a tensor of another shape or layout. Here every draw is seeded by its number alone and made
contiguous, and where the two networks draw different shapes, the draw is the same all along the dimensions that differ.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ranp.graph.rules.op import Mode, base_name

Shape = tuple[int, ...]
Found = TypeVar("Found")
LIKE = {"rand_like", "randn_like", "randint_like"}
SIZED = {"rand", "randn", "randint"}
FILLING = {"bernoulli", "cauchy", "exponential", "geometric", "log_normal", "normal", "random", "uniform"}


class Draws(Mode):
    """Seeds every draw of a run by its number; use under `torch.random.fork_rng`.

    Args:
        seed: of the first draw.
        shapes: to draw; where one has length 1 and the tensor has not, the draw is repeated. By default the tensors'.

    Attributes:
        made: the shape of each tensor that was filled.
    """

    def __init__(self, seed: int = 0, shapes: list[Shape] | None = None) -> None:
        super().__init__()
        self.made: list[Shape] = []
        self._seed, self._shapes = seed, shapes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an op; a random one from a seed of its own."""
        name, kwargs = base_name(func), kwargs or {}
        if name in LIKE:
            start = torch.empty(self._next(args[0].shape), dtype=args[0].dtype, device=args[0].device)
            kwargs = {**kwargs, "memory_format": torch.contiguous_format}
            return self._repeated(func(start, *args[1:], **kwargs), args[0].shape)
        if name in SIZED:
            where = next(index for index, each in enumerate(args) if isinstance(each, list | tuple))
            size = tuple(args[where])
            return self._repeated(func(*args[:where], list(self._next(size)), *args[where + 1 :], **kwargs), size)
        if name in FILLING and func._schema.is_mutable and not any(isinstance(each, Tensor) for each in args[1:]):
            start = torch.empty(self._next(args[0].shape), dtype=args[0].dtype, device=args[0].device)
            return args[0].copy_(func(start, *args[1:], **kwargs))
        return func(*args, **kwargs)

    def _next(self, shape: Shape) -> Shape:
        """Seed the next draw and return the shape to draw for a tensor."""
        torch.manual_seed(self._seed + len(self.made))
        drawn = self._shapes[len(self.made)] if self._shapes is not None else tuple(shape)
        self.made.append(tuple(shape))
        return drawn

    @staticmethod
    def _repeated(drawn: Tensor, shape: Shape) -> Tensor:
        return drawn if drawn.shape == shape else drawn.expand(shape).contiguous()


def drawn_alike(
    first: Callable[[Draws], Found], second: Callable[[Draws], Found], seed: int = 0
) -> tuple[Found, Found]:
    """Run two networks with the same draws and return what each returns.

    Args:
        first: runs one network under the draws it is given.
        second: runs the other one.
        seed: of the draws.
    """
    pair = Draws(seed), Draws(seed)
    results = first(pair[0]), second(pair[1])
    if pair[0].made == pair[1].made or len(pair[0].made) != len(pair[1].made):
        return results
    shapes = [_common(*each) for each in zip(pair[0].made, pair[1].made, strict=True)]
    return first(Draws(seed, shapes)), second(Draws(seed, shapes))


def _common(a: Shape, b: Shape) -> Shape:
    return tuple(n if n == m else 1 for n, m in zip(a, b, strict=True)) if len(a) == len(b) else a
