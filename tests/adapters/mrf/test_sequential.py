from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ranp.adapters import mrf
from ranp.errors import UsageError

DATA = Path(__file__).parents[2] / "published" / "mrf"


@pytest.fixture(params=["off", "auto"], autouse=True)
def _native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", request.param)


@pytest.mark.parametrize("iterations", [1, 10])
def test_trws_reproduces_the_fixtures(iterations: int) -> None:
    fixture = np.load(DATA / f"trws_k{iterations}.npz")
    unary = torch.from_numpy(fixture["unary"]).permute(2, 0, 1)[None]
    weights, matrix = torch.from_numpy(fixture["weights"]), torch.from_numpy(fixture["V"])
    found = mrf.trws(unary, matrix, weights, 4, iterations)
    assert found.bounds is not None
    np.testing.assert_allclose(found.bounds[0], fixture["lower_bounds"], rtol=1e-12)
    np.testing.assert_allclose(found.energies[0], fixture["energies"], rtol=1e-12)
    assert np.array_equal(found.labels[0].numpy(), fixture["labels"])


@pytest.mark.parametrize(("shape", "directions"), [((5, 6), 8), ((5, 6), 16), ((3, 4, 5), 26)])
def test_bounds_rise_and_stay_below_the_energy(shape: tuple[int, ...], directions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    unary = torch.rand(2, 4, *shape, generator=generator)
    weights = torch.rand(directions, *shape, generator=generator)
    found = mrf.trws(unary, mrf.truncated_linear(2), weights, directions, 6)
    assert found.bounds is not None
    assert bool((found.bounds.diff(dim=1) >= -1e-9).all())
    assert bool((found.bounds <= found.energies + 1e-9).all())
    again = mrf.energy(found.labels, unary, mrf.truncated_linear(2), weights, directions=directions)
    torch.testing.assert_close(again, found.energies[:, -1])
    assert found.cost.shape == unary.shape


def test_icm_never_rises_and_ends_where_no_single_change_helps() -> None:
    unary = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    found = mrf.icm(unary, "potts", 0.4, 8, 20)
    assert bool((found.energies.diff(dim=1) <= 1e-9).all())
    assert torch.equal(found.cost.argmin(1), found.labels)
    assert found.bounds is None


def test_icm_takes_the_nodes_in_row_major_order() -> None:
    # Alone 0, 1, 1 are best; the first node, seen first, joins its neighbour, and then nobody moves.
    unary = torch.tensor([[0.0, 1.0, 1.0], [0.5, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    assert mrf.icm(unary, "potts", 0.9, 4, 1).labels.tolist() == [[[1, 1, 1]]]


def test_costs_of_any_precision_come_back_in_it() -> None:
    for dtype, expected in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        found = mrf.trws(torch.zeros(1, 2, 3, 3, dtype=dtype), iterations=1)
        assert found.cost.dtype == expected
        assert found.energies.dtype == torch.float64


@pytest.mark.parametrize("method", [mrf.trws, mrf.icm])
def test_no_iterations_are_refused(method: object) -> None:
    with pytest.raises(UsageError, match="iterations=0: expected a whole number, at least 1"):
        method(torch.zeros(1, 2, 3, 3), iterations=0)  # type: ignore[operator]


@pytest.mark.parametrize("method", [mrf.trws, mrf.icm])
def test_there_is_no_gradient(method: Callable[..., mrf.Sequential]) -> None:
    learnt = [torch.rand(shape, requires_grad=True) for shape in ((1, 2, 3, 3), (2, 2), (4,))]
    found = method(*learnt)
    assert not found.cost.requires_grad
    assert not found.energies.requires_grad
