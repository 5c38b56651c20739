from typing import Any

import pytest
import torch

from ranp.adapters import mrf
from ranp.adapters.jobs.options import Refining
from ranp.adapters.mrf.refinement import METHODS, measures, pairwise_of, refine, unary_costs
from ranp.errors import UsageError, on_command_line

SCORES = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_energies_are_those_of_the_labels_after_each_iteration(method: str) -> None:
    found = refine(SCORES, Refining(method=method, strength=0.8, iterations=3))
    unary = -torch.log_softmax(SCORES, 0)[None]
    assert len(found.energies) == 4
    for labels, expected in ((found.before, found.energies[0]), (found.after, found.energies[-1])):
        assert mrf.energy(labels[None], unary, "potts", 0.8).item() == pytest.approx(expected)
    assert torch.equal(found.before, SCORES.argmax(0))
    assert found.changed == int((found.before != found.after).sum()) > 0


@pytest.mark.parametrize("edges", ["contrast", "canny", "none"])
def test_an_image_weighs_the_edges(edges: str) -> None:
    image = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(1))
    found = refine(SCORES, Refining(method="trws", edges=edges), image)
    weigh = {"contrast": mrf.contrast_weights, "canny": mrf.canny_weights}.get(edges)
    weights = None if weigh is None else weigh(image[None])
    expected = mrf.trws(-torch.log_softmax(SCORES, 0)[None], "potts", weights).energies[0]
    assert found.energies[1:] == pytest.approx(expected.tolist())


def test_volumes_take_six_directions_unless_told() -> None:
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    unary = -torch.log_softmax(scores, 0)[None]
    for directions, used in ((None, 6), (26, 26)):
        found = refine(scores, Refining(method="trwp", directions=directions, iterations=1))
        assert found.energies[1] == pytest.approx(mrf.energy(found.after[None], unary, "potts", directions=used).item())


def test_probabilities_and_logits_agree() -> None:
    torch.testing.assert_close(unary_costs(torch.softmax(SCORES, 0), True), unary_costs(SCORES, False))
    assert bool(unary_costs(torch.eye(2), True).isfinite().all())
    with pytest.raises(UsageError, match=r"^probabilities=True: expected values from 0 to 1"):
        unary_costs(SCORES, True)


def test_progress_is_told_of_every_iteration() -> None:
    seen: list[int] = []

    def track(counts: Any) -> Any:
        for count in counts:
            seen.append(count)
            yield count

    refine(SCORES, Refining(iterations=3), track=track)
    assert seen == [1, 2, 3]


def test_measures_by_hand() -> None:
    truth, labels = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])
    found = measures(labels, truth, 3)
    assert found["accuracy"] == 0.75
    assert found["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["edge_f"] == pytest.approx(6 / 7)  # edges 1, 2 and 0, 1; dilated 0..3 and 0..2
    assert measures(truth * 0, truth * 0, 2)["edge_f"] is None
    assert found["dice"] == [pytest.approx(2 / 3), pytest.approx(4 / 5), None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "trw"}, "--method trw: expected trwp, .* did you mean 'trws'"),
        ({"pairwise": "pots"}, "--pairwise pots: .* did you mean 'potts'"),
        ({"edges": "sobel"}, "--edges sobel: expected contrast, canny or none"),
        ({"strength": -1.0}, "--strength -1.0"),
        ({"iterations": 0}, "--iterations 0"),
        ({"scale": 2.0}, "--scale 2.0: potts has none"),
        ({"pairwise": "huber", "scale": -2.0}, "--scale -2.0: expected a number above 0"),
    ],
)
def test_bad_settings_name_the_option(options: dict[str, Any], message: str) -> None:
    with on_command_line(), pytest.raises(UsageError, match=message):
        pairwise_of(Refining.read(options))
