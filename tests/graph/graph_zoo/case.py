"""The table of networks: what builds each, what goes in, and how much of it may be frozen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

CASES: dict[str, "Case"] = {}
Built = TypeVar("Built", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Case:
    """A network and its inputs.

    Args:
        build: makes the network.
        shapes: of its positional inputs, or of its keyword inputs by name; lists of shapes are lists of tensors, and
            what is no shape stands for itself.
        frozen: largest share of units that may be frozen though they are no network output.
        trains: whether it has anything to train on.
        compares: whether the masked network can be compared (its statistics lie in one dimension).
        wide: whether it is cut to a quarter before it is compared, because it comes with millions of parameters.
    """

    build: Callable[[], nn.Module]
    shapes: tuple[Any, ...] | dict[str, Any]
    frozen: float = 0.0
    trains: bool = True
    compares: bool = True
    wide: bool = False

    def inputs(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
        """Draw inputs."""
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: Any) -> Any:
            if isinstance(shape, list):
                return [draw(each) for each in shape]
            if not isinstance(shape, tuple):
                return shape
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        if isinstance(self.shapes, dict):
            return {name: draw(shape) for name, shape in self.shapes.items()}
        return tuple(draw(shape) for shape in self.shapes)


def network(*shapes: tuple[int, ...], **settings: Any) -> Callable[[Built], Built]:
    """Enter a network under its class's name."""

    def enter(build: Built) -> Built:
        add(build.__name__, build, shapes, **settings)
        return build

    return enter


def add(name: str, build: Callable[[], nn.Module], shapes: Any, **settings: Any) -> None:
    """Enter a network under a name."""
    assert name not in CASES, name
    CASES[name] = Case(build, shapes, **settings)
