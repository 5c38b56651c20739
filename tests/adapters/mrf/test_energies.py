import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ranp.adapters import mrf
from ranp.errors import UsageError

DATA = Path(__file__).parents[2] / "published" / "mrf"
NAMES = sorted(name for name, of in json.loads((DATA / "index.json").read_text())["fixtures"].items() if "n_dir" in of)


def test_energy_of_a_labelling_worked_by_hand() -> None:
    unary = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 2, 1, 3)  # costs of labels 0 and 1 on a row
    labels = torch.tensor([[[0, 1, 1]]])
    # Unary 1 + 5 + 6; the pairs (0, 1) and (1, 1), of which the first costs 2.5.
    assert mrf.energy(labels, unary, "potts", 2.5).tolist() == [14.5]


def test_the_weight_is_read_at_the_target_of_the_even_direction_and_the_matrix_at_the_earlier_label() -> None:
    unary = torch.zeros(1, 2, 2, 2)
    labels = torch.tensor([[[0, 1], [1, 0]]])
    matrix = torch.tensor([[0.0, 1.0], [10.0, 0.0]])  # 0 before 1 costs 1, 1 before 0 costs 10
    weights = torch.zeros(4, 2, 2)
    weights[0, 0, 1], weights[0, 1, 1] = 2, 3  # from the left
    weights[2, 1, 0], weights[2, 1, 1] = 5, 7  # from above
    weights[1], weights[3] = 1e6, 1e6  # never read
    assert mrf.energy(labels, unary, matrix, weights).item() == 2 * 1 + 3 * 10 + 5 * 1 + 7 * 10


@pytest.mark.parametrize("name", NAMES)
def test_energies_of_the_fixtures(name: str) -> None:
    fixture = np.load(DATA / f"{name}.npz")
    unary = torch.from_numpy(fixture["unary"]).permute(2, 0, 1)[None]
    labels = torch.from_numpy(fixture["labels"].astype(np.int64))[None]
    weights, matrix = torch.from_numpy(fixture["weights"]), torch.from_numpy(fixture["V"])
    for directions, expected in ((len(weights), "energy_ndir"), (4, "energy_4")):
        found = mrf.energy(labels, unary, matrix, weights[:directions], directions=directions)
        assert found.item() == pytest.approx(float(fixture[expected]), rel=1e-12)


def test_a_volume_counts_each_pair_once() -> None:
    labels = torch.arange(8).reshape(1, 2, 2, 2)  # all labels differ: every pair costs 1
    unary = torch.zeros(1, 8, 2, 2, 2)
    pairs = {6: 12, 18: 24, 26: 28}  # the edges of a cube, plus its face diagonals, plus its space diagonals
    for directions, count in pairs.items():
        assert mrf.energy(labels, unary, "potts", directions=directions).item() == count


def test_energy_is_summed_in_float64_and_differentiable() -> None:
    unary = torch.full((1, 1, 3, 3), 2.0**24, requires_grad=True)
    unary.data[0, 0, 0, 0] = 1
    total = mrf.energy(torch.zeros(1, 3, 3, dtype=torch.long), unary, "linear")
    assert total.dtype == torch.float64
    assert total.item() == 8 * 2**24 + 1
    total.sum().backward()
    assert unary.grad is not None
    assert bool((unary.grad == 1).all())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(1, 3, 3), "expected integers"),
        (torch.zeros(1, 3, 2, dtype=torch.long), r"expected the shape \(1, 3, 3\)"),
        (torch.full((1, 3, 3), 2), "expected 0 to 1, got 2 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mrf.energy(labels, torch.zeros(1, 2, 3, 3), "potts")


def test_an_empty_batch_has_no_energies() -> None:
    assert mrf.energy(torch.zeros(0, 3, 3, dtype=torch.long), torch.zeros(0, 2, 3, 3), "potts").shape == (0,)
