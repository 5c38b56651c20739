from pathlib import Path

import numpy as np
import pytest
import torch

from ranp.adapters import mrf
from ranp.errors import UsageError

DATA = Path(__file__).parents[2] / "published" / "mrf"


@pytest.mark.parametrize("directions", [4, 8, 16])
@pytest.mark.parametrize("iterations", [1, 2])
def test_mean_field_reproduces_the_fixtures(directions: int, iterations: int) -> None:
    fixture = np.load(DATA / f"mf_d{directions}_k{iterations}.npz")
    unary = torch.from_numpy(fixture["unary"]).permute(2, 0, 1)[None]
    weights, matrix = torch.from_numpy(fixture["weights"]), torch.from_numpy(fixture["V"])
    found = mrf.mean_field(unary, matrix, weights, directions, iterations)
    torch.testing.assert_close(found.cost[0].permute(1, 2, 0), torch.from_numpy(fixture["cost"]))
    assert np.array_equal(found.labels[0].numpy(), fixture["labels"])


def test_one_iteration_on_two_nodes_by_hand() -> None:
    unary = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64).reshape(1, 2, 1, 2)  # labels x nodes
    matrix = torch.tensor([[0.0, 3.0], [5.0, 0.0]], dtype=torch.float64)
    left, right = torch.softmax(-unary[0, :, 0, 0], 0), torch.softmax(-unary[0, :, 0, 1], 0)
    found = mrf.mean_field(unary, matrix, 2.0, 4, 1).cost[0, :, 0]
    # One neighbour each, but the average divides by the four directions.
    torch.testing.assert_close(found[:, 1], unary[0, :, 0, 1] + 2 * (left @ matrix) / 4)
    torch.testing.assert_close(found[:, 0], unary[0, :, 0, 0] + 2 * (matrix @ right) / 4)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    unary, weights, matrix = (
        torch.rand(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 2, 3), (2, 4, 2, 3), (3, 3))
    )
    assert torch.autograd.gradcheck(lambda *args: mrf.mean_field(*args, 4, 2).cost, (unary, matrix, weights))


def test_volumes_and_half_precision() -> None:
    unary = torch.rand(1, 3, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    found = mrf.mean_field(unary.bfloat16(), "potts", directions=26, iterations=2)
    assert found.cost.dtype == torch.float32
    assert found.labels.shape == (1, 2, 3, 4)


def test_no_iterations_are_refused() -> None:
    with pytest.raises(UsageError, match="iterations=0: expected a whole number, at least 1"):
        mrf.mean_field(torch.zeros(1, 2, 3, 3), iterations=0)


def test_nan_is_refused() -> None:
    with pytest.raises(UsageError, match="unary: expected finite"):
        mrf.mean_field(torch.full((1, 2, 3, 3), torch.nan))
