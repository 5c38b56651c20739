from itertools import product

import pytest
import torch

from ranp.adapters.mrf import dynamic
from ranp.errors import UsageError

TREES = {
    "chain": dynamic.chain(5),
    "star": [-1, 0, 0, 0, 0],
    "root in the middle": [2, 0, -1, 2, 3],
    "two trees": [-1, 0, -1, 2, 2],
    "one node": [-1],
}


def brute_force(unary: torch.Tensor, parents: list[int], pairwise: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the energy of every labelling, as (L, ..., L)."""
    nodes, labels = unary.shape
    energies = torch.empty([labels] * nodes, dtype=unary.dtype)
    for x in product(range(labels), repeat=nodes):
        edges = sum(weights[i] * pairwise[x[p], x[i]] for i, p in enumerate(parents) if p >= 0)
        energies[x] = sum(unary[i, x[i]] for i in range(nodes)) + edges
    return energies


def problem(nodes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(nodes)
    return tuple(
        torch.rand(shape, generator=generator, dtype=torch.float64) for shape in ((nodes, 3), (3, 3), (nodes,))
    )  # type: ignore[return-value]


@pytest.mark.parametrize("name", TREES)
def test_all_three_forms_find_the_optimum(name: str) -> None:
    parents = TREES[name]
    unary, pairwise, weights = problem(len(parents))
    energies = brute_force(unary, parents, pairwise, weights)
    for method in (dynamic.min_sum, dynamic.lazy):
        found = method(unary, parents, pairwise, weights)
        assert found.energy.item() == pytest.approx(energies.min().item())
        assert energies[tuple(found.labels.tolist())].item() == pytest.approx(energies.min().item())
    marginals = dynamic.min_marginals(unary, parents, pairwise, weights)
    assert marginals.argmin(1).tolist() == found.labels.tolist()


@pytest.mark.parametrize("name", ["chain", "star", "root in the middle"])
def test_min_marginals_are_the_least_energies_with_a_label_held(name: str) -> None:
    parents = TREES[name]
    unary, pairwise, weights = problem(len(parents))
    energies = brute_force(unary, parents, pairwise, weights)
    expected = [energies.movedim(node, 0).flatten(1).amin(1) for node in range(len(parents))]
    torch.testing.assert_close(dynamic.min_marginals(unary, parents, pairwise, weights), torch.stack(expected))


def test_ties_go_to_the_smallest_label() -> None:
    unary = torch.zeros(3, 2)
    assert dynamic.min_sum(unary, dynamic.chain(3), 1 - torch.eye(2)).labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("parents", "message"), [([1, 2, 0], "found a cycle"), ([-1, 0], "3 numbers from -1 to 2"), ([-1, 0, 9], "from -1")]
)
def test_no_forest_is_refused(parents: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dynamic.min_sum(torch.zeros(3, 2), parents, torch.zeros(2, 2))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"pairwise: expected \(2, 2\)"):
        dynamic.lazy(torch.zeros(3, 2), dynamic.chain(3), torch.zeros(3, 3))
    with pytest.raises(UsageError, match=r"weights: expected \(3,\)"):
        dynamic.lazy(torch.zeros(3, 2), dynamic.chain(3), torch.zeros(2, 2), torch.ones(2))
    with pytest.raises(UsageError, match=r"unary: expected \(N, L\)"):
        dynamic.min_marginals(torch.zeros(3), dynamic.chain(3), torch.zeros(2, 2))
