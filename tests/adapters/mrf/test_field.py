"""The problem as it is read once for all methods."""

import pytest
import torch
from torch import Tensor

from ranp.adapters import mrf
from ranp.adapters.mrf._field import Field, Forest
from ranp.errors import UsageError

UNARY = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
DIRECTION, EDGE = torch.arange(8.0), torch.arange(160.0).reshape(8, 4, 5)
BATCH = torch.stack([EDGE, -EDGE])


def test_everything_is_spelled_out() -> None:
    field = Field.of(UNARY, "truncated_linear", 2.0, 8)
    assert field.unary is UNARY
    assert field.spatial == (4, 5)
    assert field.steps == mrf.steps(8, 2)
    assert torch.equal(field.matrix, mrf.truncated_linear().matrix(3))
    assert field.window == 2
    assert torch.equal(field.weights.expand(1, 8, 20), torch.full((1, 8, 20), 2.0))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, torch.ones(1, 8, 4, 5)),
        (3, torch.full((1, 8, 4, 5), 3.0)),
        (torch.tensor(3.0), torch.full((1, 8, 4, 5), 3.0)),
        (DIRECTION, DIRECTION.reshape(1, 8, 1, 1).expand(1, 8, 4, 5)),
        (EDGE, EDGE[None]),
        (BATCH, BATCH),
    ],
)
def test_weights_of_a_direction_have_the_shape_of_the_grid(weights: float | Tensor | None, expected: Tensor) -> None:
    field = Field.of(UNARY, weights=weights, directions=8)
    for direction in range(8):
        assert torch.equal(field.weights_of(direction), expected[:, direction])


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_all_is_of_one_precision(given: torch.dtype) -> None:
    learnt = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    field = Field.of(UNARY.to(given), learnt, EDGE.half(), 8)
    wide = torch.float64 if given == torch.float64 else torch.float32
    assert {tensor.dtype for tensor in (field.unary, field.weights, field.matrix)} == {wide}
    for double in (Field.of(UNARY.to(given), learnt, EDGE, 8, dtype=torch.float64), field.to(torch.float64)):
        assert {tensor.dtype for tensor in (double.unary, double.weights, double.matrix)} == {torch.float64}
        assert double.matrix.requires_grad
        assert (double.steps, double.window) == (field.steps, field.window)


def test_a_named_function_keeps_its_precision() -> None:
    """V is made in float64 where the sum is, not in float32 before."""
    expected = mrf.cauchy(0.3).matrix(3, torch.float64)
    assert torch.equal(Field.of(UNARY, mrf.cauchy(0.3), dtype=torch.float64).matrix, expected)


def test_values_are_not_looked_at_where_there_are_none() -> None:
    field = Field.of(UNARY.to("meta"), torch.zeros(3, 3, device="meta"), torch.ones(4, device="meta"))
    assert field.unary.is_meta
    assert Field.of(UNARY[:0]).weights_of(0).shape == (1, 4, 5)


def test_a_forest_has_parents_before_their_children() -> None:
    parents = [2, 0, -1, 2, -1]
    forest = Forest.of(torch.zeros(5, 2), parents, torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.arange(5.0))
    places = {node: place for place, node in enumerate(forest.order)}
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert all(places[parent] < places[node] for node, parent in enumerate(parents) if parent >= 0)
    assert forest.edge(3).tolist() == [[0, 3], [6, 9]]
    with pytest.raises(UsageError, match="found a cycle"):
        Forest.of(torch.zeros(2, 2), [1, 0], torch.zeros(2, 2))
