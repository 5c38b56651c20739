"""Numbers that modules keep and that count channels: known by where they are used, set in the slim module."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_zoo.checking import check, randomise
from torch import Tensor, nn

from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.graph.resize import resized
from ranp.graph.sizes import numbers_of, set_number


class Base(nn.Module):
    """A convolution to 8 channels, something that knows their number, a head."""

    def __init__(self, last: int = 8) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(last, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(F.relu(self.first(x))))

    def middle(self, x: Tensor) -> Tensor:
        return x


class InView(Base):
    def __init__(self) -> None:
        super().__init__()
        self.width = 8

    def middle(self, x: Tensor) -> Tensor:
        return x.view(-1, self.width, 36).view(-1, self.width, 6, 6)


class InTuple(Base):
    def __init__(self) -> None:
        super().__init__()
        self.shape = (-1, 8, 36)

    def middle(self, x: Tensor) -> Tensor:
        return x.view(self.shape).view(x.shape)


class Flattened(Base):
    """The number of a flattened map, which is channels times positions."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.mix = 8 * 36, nn.Linear(8 * 36, 8)

    def middle(self, x: Tensor) -> Tensor:
        return self.mix(x.reshape(-1, self.features))[:, :, None, None]


class Checks(nn.Module):
    """Refuses inputs of another width than it was made for; what it makes happens to be as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.conv = width, nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.channels:
            raise ValueError(f"{x.shape[1]} channels, expected {self.channels}")
        return self.conv(x)


class Checked(Base):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Checks(8), nn.ReLU(), Checks(8), nn.ReLU(), Checks(8))

    def middle(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def widen(x: Tensor, planes: int) -> Tensor:
    return torch.cat([x, x.new_zeros(x.shape[0], planes - x.shape[1], *x.shape[2:])], 1)


class Partial(Base):
    """A shortcut that pads with zero channels up to a width that a partial function holds."""

    def __init__(self) -> None:
        super().__init__(12)
        self.conv, self.shortcut = nn.Conv2d(8, 12, 3, padding=1), partial(widen, planes=12)

    def middle(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


@pytest.mark.parametrize("kind", [InView, InTuple, Flattened, Checked, Partial])
def test_sizes_follow_the_channels(kind: type[nn.Module]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, inputs = kind().eval(), torch.randn(2, 3, 6, 6)
        graph = trace(net, inputs)
        assert {reason for reason in graph.reasons if reason and "fixed size" in reason} == set()
        assert graph.sizes
        for removed, seed in ((0.3, 1), (0.7, 2)):
            check(graph, randomise(net.double()), (inputs.double(),), removed, seed)


def test_a_size_in_repeated_blocks_is_found_in_each() -> None:
    graph = trace(Checked(), torch.zeros(1, 3, 6, 6))
    assert sorted(size.module for size in graph.sizes) == ["blocks.0", "blocks.2", "blocks.4"]


def test_numbers_that_are_set_are_named() -> None:
    (note,) = trace(InTuple(), torch.zeros(1, 3, 6, 6)).notes
    assert note == "numbers that count channels, set in the slim network: shape[1]"


class Written(Base):
    """Sizes written in the code, and one that goes through what forgets where it came from."""

    def __init__(self, forgets: bool) -> None:
        super().__init__()
        self.forgets = forgets

    def middle(self, x: Tensor) -> Tensor:
        return forgetful(x) if self.forgets else x.view(-1, 8, 36).view(x.shape)


def forgetful(x: Tensor) -> Tensor:
    return x.view(x.shape[0], int(x.shape[1]), 36).view(x.shape)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_written_size_freezes_with_its_line_and_a_forgotten_one_does_not(forgets: bool) -> None:
    graph = trace(Written(forgets), torch.zeros(1, 3, 6, 6))
    (reason,) = {graph.reasons[unit] for unit in graph.parameters["first.weight"].dims[0]}
    assert (reason is None) if forgets else str(reason).startswith("fixed size in view at the top (test_sizes.py:")


def test_the_model_keeps_its_numbers_and_the_slim_one_gets_its_own() -> None:
    net = InTuple()
    graph = trace(net, torch.zeros(1, 3, 6, 6))
    slim = resized(graph, net, random_plan(graph, 0.5, np.random.default_rng(0)))
    assert net.shape == (-1, 8, 36)
    assert slim.shape == (-1, 4, 36)


class Ambiguous(Base):
    """One number for two widths: both keep equally many."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.second = 8, nn.Conv2d(8, 8, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        x = self.second(x.view(-1, self.width, 6, 6))
        return F.relu(x).view(-1, self.width, 6, 6)


def test_a_number_for_two_widths_makes_them_equal() -> None:
    net, inputs = Ambiguous().eval(), torch.randn(2, 3, 6, 6)
    graph = trace(net, inputs)
    assert [rows.shape for rows in graph.balance] == [(2, 8)]
    check(graph, randomise(net.double()), (inputs.double(),), 0.5, 1)


def test_numbers_in_containers() -> None:
    module = nn.Module()
    module.a, module.b, module.c, module.d = 4, [1, 5], {"x": 6}, partial(print, 7, end=8)
    assert dict(numbers_of(module)) == {
        ("a", None): 4,
        ("b", 1): 5,
        ("c", "x"): 6,
        ("d", "end"): 8,
        ("d", 0): 7,
    }
    before = module.b
    for key, value in ((("a", None), 2), (("b", 1), 2), (("c", "x"), 2), (("d", "end"), 2), (("d", 0), 3)):
        set_number(module, key, value)
    assert (module.a, module.b, module.c, module.d.args, module.d.keywords) == (2, [1, 2], {"x": 2}, (3,), {"end": 2})
    assert before == [1, 5]
