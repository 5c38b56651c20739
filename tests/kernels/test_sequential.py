import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ranp.kernels import native
from ranp.kernels.sequential import (
    Grid,
    beliefs,
    conditional_costs,
    icm_sweep,
    reference_icm_sweep,
    reference_trws_sweep,
    trws_sweep,
)

PLANE = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (2, -1), (1, -2))
VOLUME = ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, -1), (0, 1, 1), (1, -1, 0), (1, 0, -1), (1, -1, -1), (1, 1, 1))


def problem(grid: Grid, batch: int, labels: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, grid.nodes, labels), (batch, len(grid.steps), grid.nodes), (labels, labels)
    unary, weights, pairwise = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return unary, weights, pairwise


def test_neighbours_by_hand() -> None:
    grid = Grid((2, 3), ((0, 1), (1, -1)))
    assert grid.behind.tolist() == [[-1, 0, 1, -1, 3, 4], [-1, -1, -1, 1, 2, -1]]
    assert grid.ahead.tolist() == [[1, 2, -1, 4, 5, -1], [-1, 3, 4, -1, -1, -1]]
    assert grid.gamma.tolist() == [1, 1 / 2, 1, 1, 1 / 2, 1]


@pytest.mark.parametrize(
    ("size", "steps"), [((5, 6), PLANE), ((5, 6), PLANE[:2]), ((3, 4, 5), VOLUME), ((1, 1), PLANE)]
)
def test_fronts_hold_every_node_once_and_after_the_nodes_behind_it(
    size: tuple[int, ...], steps: tuple[tuple[int, ...], ...]
) -> None:
    grid = Grid(size, steps)
    time = torch.full((grid.nodes,), -1)
    for moment, nodes in enumerate(grid.fronts):
        assert bool((time[nodes] == -1).all())
        time[nodes] = moment
    assert bool((time >= 0).all())
    there = grid.behind >= 0
    assert bool((time.expand_as(there)[there] > time[grid.behind[there]]).all())


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    batch=st.integers(0, 2),
    labels=st.integers(1, 9),
    seed=st.integers(0, 99),
    volume=st.booleans(),
)
def test_native_sweeps_are_the_pytorch_sweeps(
    data: st.DataObject, batch: int, labels: int, seed: int, volume: bool
) -> None:
    if native.library("cpu") is None:
        pytest.skip("no native library: RANP_NATIVE=off, or no compiler")
    table = VOLUME if volume else PLANE
    size = tuple(data.draw(st.integers(1, 5)) for _ in range(3 if volume else 2))
    grid = Grid(size, table[: data.draw(st.integers(1, len(table)))])
    unary, weights, pairwise = problem(grid, batch, labels, seed)
    messages = unary.new_zeros(*weights.shape, labels)
    copies = messages.clone()
    for _ in range(2):
        found, bound = trws_sweep(grid, unary, weights, pairwise, messages)
        expected, expected_bound = reference_trws_sweep(grid, unary, weights, pairwise, copies)
        torch.testing.assert_close(messages, copies)
        torch.testing.assert_close(bound, expected_bound)
        assert torch.equal(found, expected)
    found, expected = unary.argmin(-1), unary.argmin(-1)
    icm_sweep(grid, unary, weights, pairwise, found)
    reference_icm_sweep(grid, unary, weights, pairwise, expected)
    assert torch.equal(found, expected)


def test_blocks_of_labels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((3, 4), PLANE[:2])
    unary, weights, pairwise = problem(grid, 2, 5, 0)
    results = []
    for chunk in (1 << 22, 1):
        monkeypatch.setattr("ranp.kernels.sequential.CHUNK", chunk)
        messages = unary.new_zeros(*weights.shape, 5)
        reference_trws_sweep(grid, unary, weights, pairwise, messages)
        results.append(messages)
    assert torch.equal(*results)


def test_beliefs_and_conditional_costs_by_hand() -> None:
    grid = Grid((1, 2), ((0, 1),))
    unary = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
    messages = torch.tensor([[[[9.0, 9.0], [0.5, 0.0]]]], dtype=torch.float64)
    messages[0, 0, 0] = 0  # an edge that isn't there holds nothing
    assert beliefs(grid, unary, messages).tolist() == [[[1.5, 2.0], [3.5, 4.0]]]
    pairwise = torch.tensor([[0.0, 10.0], [20.0, 0.0]], dtype=torch.float64)  # first index: the node on the left
    weights = torch.tensor([[[7.0, 2.0]]], dtype=torch.float64)
    costs = conditional_costs(grid, unary, weights, pairwise, torch.tensor([[1, 0]]))
    assert costs.tolist() == [[[1.0, 2.0 + 2 * 20], [3.0 + 2 * 20, 4.0]]]
