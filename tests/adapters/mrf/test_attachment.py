import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.adapters import mrf
from ranp.errors import UsageError
from ranp.graph.rules.registry import RULES


def network(channels: int = 1, labels: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, labels, 1)
    return nn.Sequential(*layers).eval()


def image(seed: int = 0) -> Tensor:
    return torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("edges", [None, "contrast"])
def test_the_joined_module_refines_the_logits(edges: str | None) -> None:
    body, layer = network(), mrf.MRFLayer("trwp", 3, directions=8)
    joined = mrf.attach(body, layer, edges=edges)
    weights = mrf.contrast_weights(image(), directions=8) if edges else None
    torch.testing.assert_close(joined(image()), layer(body(image()), weights))


def test_the_joined_module_trains_end_to_end() -> None:
    joined = mrf.attach(network(), mrf.MRFLayer("isgmr", 3, learn_weights=True), edges="contrast").train()
    nn.functional.cross_entropy(joined(image()), torch.ones(2, 6, 7, dtype=torch.long)).backward()
    assert all(parameter.grad is not None for parameter in joined.parameters())


def test_state_dict_round_trip_and_compile() -> None:
    joined = mrf.attach(network(), mrf.MRFLayer("trwp", 3, learn_weights=True), edges="contrast")
    other = mrf.attach(network(), mrf.MRFLayer("trwp", 3, strength=2.0, learn_weights=True), edges="contrast")
    other.load_state_dict(joined.state_dict())
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image(1)), joined(image(1)))


def test_what_is_exported_is_the_network_up_to_its_logits() -> None:
    body = network()
    part, note = mrf.attach(body, mrf.MRFLayer("trwp", 3)).export_module()
    assert part is body
    assert "logits" in note
    assert "\n" not in note


@pytest.mark.parametrize("edges", [None, "contrast"])
@pytest.mark.parametrize("method", ["trwp", "mean_field"])
def test_pruning_keeps_the_labels_by_name_and_slims_the_rest(method: str, edges: str | None) -> None:
    layer = mrf.MRFLayer(method, 3, iterations=2, learn_weights=True, learn_pairwise=True)
    joined = mrf.attach(network(), layer, edges=edges)
    result = ranp.prune(joined, image(), sparsity=0.5, method="l1")
    assert result.report.verify["passed"]  # slim == masked
    groups = {group["name"]: group for group in result.report.groups}
    assert groups["body.0"]["after"] < groups["body.0"]["before"] == 8
    assert groups["body.3"]["after"] == 3
    assert list(groups["body.3"]["frozen"]) == [
        "labels of the MRF at mrf" if method == "trwp" else "reduced over channels by argmin at mrf"
    ]
    assert isinstance(result.slim, mrf.Attached)
    assert result.slim.export_module()[0] is result.slim.body
    assert result.slim(image()).shape == (2, 3, 6, 7)
    assert len(result.slim.body[0].weight) == groups["body.0"]["after"]  # type: ignore[index]


def test_without_the_rule_the_labels_stay_by_the_name_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is there once the adapter was imported, and not before."""
    monkeypatch.delitem(RULES, "ranp::message_passing")
    result = ranp.prune(mrf.attach(network(), mrf.MRFLayer("trwp", 3)), image(), sparsity=0.5, method="l1")
    groups = {group["name"]: group for group in result.report.groups}
    assert list(groups["body.3"]["frozen"]) == ["no rule for ranp::message_passing at mrf"]
    assert groups["body.3"]["after"] == 3


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="expected an MRFLayer, got a Identity"):
        mrf.attach(network(), nn.Identity())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="edges='canny': expected one of contrast"):
        mrf.attach(network(), mrf.MRFLayer("trwp", 3), edges="canny")
    halved = nn.Sequential(network(), nn.MaxPool2d(2))
    with pytest.raises(UsageError, match="expected logits of the size of the image"):
        mrf.attach(halved, mrf.MRFLayer("trwp", 3), edges="contrast")(image())

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(UsageError, match="returns one tensor, got a tuple"):
        mrf.attach(Pair(), mrf.MRFLayer("trwp", 3))(image())
