"""Every method against enumeration on grids of 3 x 3 with 3 labels, and against exact chains."""

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from ranp.adapters import mrf
from ranp.adapters.mrf import dynamic

METHODS: dict[str, Callable[..., Any]] = {
    "isgmr": mrf.isgmr,
    "trwp": mrf.trwp,
    "sgm": mrf.sgm,
    "mean_field": mrf.mean_field,
    "trws": mrf.trws,
    "icm": mrf.icm,
}


def grid(seed: int, directions: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((1, 3, 3, 3), (directions, 3, 3), (3, 3))
    unary, weights, matrix = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    weights[1::2] = tied(weights[::2], directions)
    return unary, weights, matrix


def tied(even: Tensor, directions: int) -> Tensor:
    """Return the weights of the odd directions: that of a pair, stored at its other end."""
    from ranp.kernels.chains import overlap

    odd = torch.ones_like(even)
    for place, step in enumerate(mrf.steps(directions, 2)[::2]):
        neighbours, nodes = overlap(step, (3, 3))
        odd[place][neighbours] = even[place][nodes]
    return odd


@cache
def all_labellings() -> Tensor:
    return torch.tensor(list(product(range(3), repeat=9))).reshape(-1, 3, 3)  # (19683, 3, 3)


def minimum(unary: Tensor, matrix: Tensor, weights: Tensor, directions: int) -> float:
    every = all_labellings()
    energies = mrf.energy(every, unary.expand(len(every), -1, -1, -1), matrix, weights, directions=directions)
    return float(energies.min())


@pytest.mark.parametrize("directions", [4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_no_energy_is_below_the_minimum_and_no_bound_above(seed: int, directions: int) -> None:
    unary, weights, matrix = grid(seed, directions)
    least = minimum(unary, matrix, weights, directions)
    for method in METHODS.values():
        labels = method(unary, matrix, weights, directions, 5).labels
        assert float(mrf.energy(labels, unary, matrix, weights, directions=directions)) >= least - 1e-9
    bounds = mrf.trws(unary, matrix, weights, directions, 20).bounds
    assert bounds is not None
    assert float(bounds.max()) <= least + 1e-9


EXACT: dict[str, Callable[..., Any]] = {
    "isgmr": lambda *model: mrf.isgmr(*model, 4, 1),
    "trwp rho 1": lambda *model: mrf.trwp(*model, 4, 1, 1.0),
    "trwp rho 0.5": lambda *model: mrf.trwp(*model, 4, 50, 0.5),
    "trws": lambda *model: mrf.trws(*model, 4, 1),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_chains_are_solved_exactly(name: str, across: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    unary, matrix = torch.rand(7, 4, generator=generator).double(), torch.rand(4, 4, generator=generator).double()
    best = dynamic.min_sum(unary, dynamic.chain(7), matrix)  # unique: the costs are random
    costs = unary.T[None, :, None, :] if across else unary.T[None, :, :, None]
    assert EXACT[name](costs, matrix, 1.0).labels.flatten().tolist() == best.labels.tolist()


def test_isgmr_costs_of_a_chain_are_its_min_marginals() -> None:
    generator = torch.Generator().manual_seed(5)
    unary, matrix = torch.rand(6, 3, generator=generator).double(), torch.rand(3, 3, generator=generator).double()
    cost = mrf.isgmr(unary.T[None, :, None, :], matrix, 1.0, 4, 1, normalise=False).cost[0, :, 0].T
    torch.testing.assert_close(cost, dynamic.min_marginals(unary, dynamic.chain(6), matrix))
