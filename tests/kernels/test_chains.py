"""Chains and fronts against a walk over the nodes, and what is kept of them."""

import gc
from itertools import pairwise, product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranp.kernels import chains as module
from ranp.kernels._reference_backward import backward as reference_backward
from ranp.kernels.chains import Axes, axes, chains, fronts, overlap, stride
from ranp.kernels.reference import METHODS, Spec
from ranp.kernels.reference import forward as reference_forward

CPU = torch.device("cpu")
PLANE = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, -2), (-1, 2))


@st.composite
def cuts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw a grid and a step, which may be longer than the grid."""
    dims = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 6)) for _ in range(dims))
    return shape, draw(st.tuples(*[st.integers(-3, 3)] * dims).filter(any))


def moved(node: tuple[int, ...], step: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    place = tuple(at + move for at, move in zip(node, step, strict=True))
    return place if all(0 <= at < size for at, size in zip(place, shape, strict=True)) else None


def walked(shape: tuple[int, ...], step: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """Return the chains as lists of nodes, walked node by node; longest first, then by their first node."""
    back = tuple(-move for move in step)
    found = []
    for node in product(*map(range, shape)):
        if moved(node, back, shape) is None:
            chain = [node]
            while (ahead := moved(chain[-1], step, shape)) is not None:
                chain.append(ahead)
            found.append(chain)
    return sorted(found, key=lambda chain: (-len(chain), chain[0]))


def number(node: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return int(torch.arange(prod(shape)).reshape(shape)[node])


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_chains_are_those_of_a_walk(cut: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, step = cut
    expected = walked(shape, step)
    first, length = chains(shape, step)
    assert first.dtype == length.dtype == torch.int64
    assert first.tolist() == [number(chain[0], shape) for chain in expected]
    assert length.tolist() == [len(chain) for chain in expected]
    for chain in expected:
        flat = [number(node, shape) for node in chain]
        assert all(after - before == stride(shape, step) for before, after in pairwise(flat))
    table = axes(shape, (step, tuple(-move for move in step)), CPU)
    assert table.begin.tolist() == [0, len(expected)]
    assert table.longest.tolist() == [len(expected[0])]
    assert table.stride.tolist() == [stride(shape, step)]


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_fronts_reach_every_node_once_and_after_its_source(cut: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, step = cut
    index = torch.arange(prod(shape)).reshape(shape)
    done = {number(chain[0], shape) for chain in walked(shape, step)}  # no message reaches them
    for targets, sources in fronts(shape, step):
        reached, left = index[targets].flatten(), index[sources].flatten()
        assert torch.equal(reached - left, torch.full_like(reached, stride(shape, step)))
        assert done.issuperset(left.tolist())
        assert done.isdisjoint(reached.tolist())
        done.update(reached.tolist())
    assert len(done) == prod(shape)


@settings(max_examples=100, deadline=None)
@given(cuts())
def test_overlap_holds_exactly_the_pairs_inside(cut: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, step = cut
    index = torch.arange(prod(shape)).reshape(shape)
    sources, targets = overlap(step, shape)
    assert all(0 <= part.start <= part.stop <= size for part, size in zip(sources + targets, shape * 2, strict=True))
    pairs = [(node, moved(node, step, shape)) for node in product(*map(range, shape))]
    inside = [(number(node, shape), number(ahead, shape)) for node, ahead in pairs if ahead is not None]
    assert list(zip(index[sources].flatten().tolist(), index[targets].flatten().tolist(), strict=True)) == inside


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[object, Axes]:
    monkeypatch.setattr(module, "_kept", fresh := type(module._kept)())
    return fresh


def test_tables_are_kept_within_their_bytes_and_the_oldest_goes_first(
    kept: dict[object, Axes], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = axes((5, 6), PLANE, CPU), axes((6, 5), PLANE, CPU)
    assert first.nbytes == sum(table.nbytes for table in first) > 0
    monkeypatch.setattr(module, "KEPT_BYTES", first.nbytes + second.nbytes)
    assert axes((5, 6), PLANE, CPU) is first  # used again: the other is the oldest now
    axes((2, 2), PLANE, CPU)
    assert sum(tables.nbytes for tables in kept.values()) <= module.KEPT_BYTES
    assert axes((5, 6), PLANE, CPU) is first
    assert axes((6, 5), PLANE, CPU) is not second
    monkeypatch.setattr(module, "KEPT_BYTES", first.nbytes - 1)
    assert torch.equal(axes((5, 6), PLANE, CPU).first, first.first)  # too large to be kept, and right
    assert not any(tables is first for tables in kept.values())


def test_no_more_grids_are_kept_than_said(kept: dict[object, Axes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_GRIDS", 3)
    for width in range(1, 9):
        axes((2, width), PLANE, CPU)
    assert len(kept) == 3


def test_streams_keep_tables_of_their_own_and_a_graph_being_captured_none(
    kept: dict[object, Axes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    for stream in (7, 8, None, None, 7):
        monkeypatch.setattr(module, "table_stream", lambda device, stream=stream: stream)
        tables.append(axes((5, 6), PLANE, CPU))
    assert tables[4] is tables[0]
    assert len({id(table) for table in tables}) == 4
    assert len(kept) == 2


def living() -> list[torch.Tensor]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]


@pytest.mark.parametrize("method", METHODS)
def test_the_pytorch_path_leaves_nothing_of_a_voxel_behind(method: str, kept: dict[object, Axes]) -> None:
    shape = (7, 8, 9 + METHODS.index(method))  # of its own, so that nothing is there already
    opposite = [(step, tuple(-move for move in step)) for step in ((0, 0, 1), (0, 1, -1), (1, 1, 1))]
    spec = Spec(method, shape, tuple(step for pair in opposite for step in pair), 1)
    weights, pairwise = torch.ones(1, 6, 1), 1 - torch.eye(2)
    gc.collect()
    before = {id(tensor) for tensor in living()}
    found = reference_forward(torch.zeros(1, prod(shape), 2), weights, pairwise, spec)
    reference_backward(torch.ones_like(found.cost), found.p, found.q, weights, pairwise, spec)
    del found
    gc.collect()
    assert sum(tensor.numel() for tensor in living() if id(tensor) not in before) == 0
    assert not kept
