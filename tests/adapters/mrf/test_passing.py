"""The public functions: fixtures on both paths, oracles on small grids, one line for every mistake."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ranp.adapters.mrf import Passed, isgmr, sgm, trwp
from ranp.errors import UsageError

DATA = Path(__file__).parents[2] / "published" / "mrf"
FIXTURES = json.loads((DATA / "index.json").read_text())["fixtures"]
PASSING = [name for name, about in FIXTURES.items() if about["method"] in ("isgmr", "trwp", "sgm")]
TOLERANCE = 2e-12


@pytest.fixture(params=["off", "require"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RANP_NATIVE", request.param)
    return str(request.param)


def load(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}


def label_first(tensor: Tensor) -> Tensor:
    return tensor.movedim(-1, -3)


def run_fixture(name: str, values: dict[str, Tensor]) -> Passed:
    about = FIXTURES[name]
    options: dict[str, Any] = {"directions": about["n_dir"], "iterations": about["n_iter"], "return_state": True}
    if about["method"] == "sgm":
        return sgm(values["input"], values["V"], values["weights"], **options)
    options |= {"ties": about["tie"], "normalise": about["normalised"]}
    if about["method"] == "trwp":
        return trwp(values["input"], values["V"], values["weights"], rho=about["rho"], **options)
    return isgmr(values["input"], values["V"], values["weights"], **options)


@pytest.mark.parametrize("name", PASSING)
def test_fixtures(name: str, path: str) -> None:
    values = load(name)
    values["input"] = label_first(values["unary"]).unsqueeze(0).requires_grad_()
    values["weights"].requires_grad_()
    values["V"].requires_grad_()
    found = run_fixture(name, values)
    close(found.cost[0], label_first(values["cost"]))
    assert torch.equal(found.labels[0], values["labels"].long())
    if "messages" not in values:
        return
    assert found.messages is not None
    assert found.indices is not None
    close(found.messages[:, 0], label_first(values["messages"]))
    recorded = label_first(values["p"]) != 255
    assert torch.equal(found.indices.p[:, :, 0][recorded], label_first(values["p"])[recorded])
    if FIXTURES[name]["normalised"]:
        reached = values["q"] != 255
        assert torch.equal(found.indices.q[:, :, 0][reached], values["q"][reached])
    found.cost.backward(label_first(values["grad_cost"]).unsqueeze(0))
    for key, gradient in (("input", "grad_unary"), ("weights", "grad_weights"), ("V", "grad_V")):
        expected = label_first(values[gradient]).unsqueeze(0) if key == "input" else values[gradient]
        assert values[key].grad is not None
        close(values[key].grad, expected)


def close(found: Tensor | None, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=TOLERANCE)


METHODS = {"isgmr": isgmr, "trwp": trwp, "sgm": sgm}


def chain(seed: int, length: int = 7, labels: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return unary (1, L, 1, W), weights (4, 1, W) and an asymmetric V, with the best labelling of the row."""
    random = torch.Generator().manual_seed(seed)
    unary = torch.rand((1, labels, 1, length), generator=random, dtype=torch.float64) * 3
    pairwise = torch.rand((labels, labels), generator=random, dtype=torch.float64)
    weights = torch.rand((1, 1, length), generator=random, dtype=torch.float64).expand(4, 1, length).clone()
    weights[1, :, :-1] = weights[0, :, 1:]  # the opposite direction shares its edge
    return unary, weights, pairwise


def best_labelling(unary: Tensor, weights: Tensor, pairwise: Tensor) -> Tensor:
    labels, length = unary.shape[1], unary.shape[3]
    all_labels = torch.cartesian_prod(*[torch.arange(labels)] * length)  # (L^W, W)
    energy = unary[0, :, 0].T[torch.arange(length), all_labels].sum(1)
    for node in range(1, length):
        energy = energy + weights[0, 0, node] * pairwise[all_labels[:, node - 1], all_labels[:, node]]
    return all_labels[energy.argmin()]


@pytest.mark.parametrize("seed", range(5))
def test_exact_on_chains(seed: int, path: str) -> None:
    unary, weights, pairwise = chain(seed)
    best = best_labelling(unary, weights, pairwise)
    assert torch.equal(isgmr(unary, pairwise, weights, iterations=1).labels.flatten(), best)
    assert torch.equal(trwp(unary, pairwise, weights, iterations=1, rho=1).labels.flatten(), best)
    assert torch.equal(trwp(unary, pairwise, weights, iterations=50).labels.flatten(), best)


@pytest.mark.parametrize("method", METHODS.values())
def test_weights_in_every_shape_mean_the_same(method: Any) -> None:
    unary = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = method(unary, "linear", 2.0, 8).cost
    for shape in ((), (8,), (8, 4, 5), (2, 8, 4, 5)):
        torch.testing.assert_close(method(unary, "linear", torch.full(shape, 2.0), 8).cost, expected)
    torch.testing.assert_close(method(unary, "linear", None, 8).cost, method(unary, "linear", 1, 8).cost)


@pytest.mark.parametrize("directions", [6, 18, 26])
def test_a_volume_of_one_slice_is_an_image_for_its_own_directions(directions: int) -> None:
    image = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    volume = isgmr(image.unsqueeze(2), "linear", directions=directions, iterations=2)
    if directions == 6:
        torch.testing.assert_close(volume.cost.squeeze(2), isgmr(image, "linear", directions=4, iterations=2).cost)
    assert volume.cost.shape == (1, 3, 1, 4, 5)
    assert volume.labels.shape == (1, 1, 4, 5)


@pytest.mark.parametrize("method", METHODS.values())
def test_volumes_have_the_gradient_of_their_reference(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    unary = torch.rand((1, 3, 3, 4, 2), generator=random, dtype=torch.float64, requires_grad=True)
    weights = torch.rand((26, 3, 4, 2), generator=random, dtype=torch.float64, requires_grad=True)
    results = []
    for mode in ("off", "require"):
        monkeypatch.setenv("RANP_NATIVE", mode)
        cost = method(unary, "huber", weights, 26, 2).cost
        results.append([cost, *torch.autograd.grad(cost.square().sum(), [unary, weights])])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other)


def test_half_precision_and_autocast_compute_in_float32() -> None:
    unary = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = trwp(unary, "potts", 2.0)
    assert found.cost.dtype == torch.float32
    assert torch.equal(found.cost, trwp(unary.float(), "potts", 2.0).cost)
    found.cost.sum().backward()
    assert unary.grad is not None
    assert unary.grad.dtype == torch.bfloat16


def test_an_iterated_sgm_leaves_float32_for_float64() -> None:
    unary = torch.rand(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    found = sgm(unary, "linear", directions=16, iterations=40)
    assert found.cost.dtype == torch.float64
    assert bool(found.cost.isfinite().all())
    assert float(found.cost.max()) > 1e39
    assert sgm(unary, "linear", directions=16, iterations=2).cost.dtype == torch.float32


def test_sgm_ignores_a_constant_per_node() -> None:
    unary = torch.rand(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    shift = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(1)) * 50
    assert torch.equal(sgm(unary, "linear", iterations=3).labels, sgm(unary + shift, "linear", iterations=3).labels)


@pytest.mark.parametrize("method", METHODS.values())
def test_an_empty_batch_gives_empty(method: Any) -> None:
    found = method(torch.zeros(0, 3, 4, 5, requires_grad=True))
    assert found.cost.shape == (0, 3, 4, 5)
    assert found.labels.shape == (0, 4, 5)


def test_state_only_where_asked_for() -> None:
    unary = torch.rand(1, 3, 4, 5)
    assert isgmr(unary).messages is None
    found = isgmr(unary, iterations=2, return_state=True)
    assert found.messages is not None
    assert found.indices is not None
    assert found.messages.shape == (4, 1, 3, 4, 5)
    assert found.indices.p.shape == (2, 4, 1, 3, 4, 5)
    assert found.indices.q.shape == (2, 4, 1, 4, 5)


GOOD = torch.zeros(1, 3, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"unary": torch.zeros(1, 1025, 1, 1)}, r"unary: expected 1 to 1024 labels \(dimension 1\), got 1025"),
        ({"unary": torch.full((1, 3, 4, 5), torch.nan)}, "unary: expected finite values, got NaN"),
        ({"unary": GOOD - torch.inf}, "unary: expected finite values, got an infinity"),
        ({"unary": GOOD[0]}, r"unary: expected \(B, L, H, W\) or \(B, L, D, H, W\), got shape \(3, 4, 5\)"),
        ({"unary": GOOD.long()}, "unary: expected floating-point costs"),
        ({"unary": GOOD[..., :0]}, "unary: expected at least one node"),
        ({"pairwise": "pots"}, "did you mean 'potts'"),
        ({"pairwise": torch.zeros(2, 2)}, "pairwise: expected a matrix of shape"),
        ({"pairwise": torch.full((3, 3), torch.nan)}, "pairwise: expected finite values, got NaN"),
        ({"pairwise": torch.zeros(3, 3, device="meta")}, "pairwise is on meta, but unary is on cpu"),
        ({"weights": torch.zeros(3)}, r"weights: expected a number, \(4,\), \(4, 4, 5\) or \(1, 4, 4, 5\), got"),
        ({"weights": torch.zeros(4, device="meta")}, "weights are on meta, but unary is on cpu"),
        ({"weights": torch.inf}, "weights: expected finite values, got an infinity"),
        ({"directions": 6}, "directions=6: expected 4, 8, 16 in 2D; the nearest is 4"),
        ({"iterations": 0}, "iterations=0: expected a whole number, at least 1"),
        ({"ties": "frist"}, "ties='frist': expected 'first' or 'last'; did you mean 'first'"),
    ],
)
@pytest.mark.parametrize("method", METHODS.values())
def test_mistakes_are_one_line(method: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        method(**({"unary": GOOD} | arguments))
    assert "\n" not in str(caught.value)


def test_mistakes_of_one_method() -> None:
    with pytest.raises(UsageError, match="rho=0: expected a number above 0 and up to 1"):
        trwp(GOOD, rho=0)
    with pytest.raises(UsageError, match="weights: expected none below 0 for SGM, got -1"):
        sgm(GOOD, weights=-1.0)
    with pytest.raises(UsageError, match="iterations=500: SGM's costs leave float64"):
        sgm(GOOD, iterations=500)


class Layer(torch.nn.Module):
    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = METHODS[method]
        self.weights = torch.nn.Parameter(torch.full((4,), 2.0))

    def forward(self, unary: Tensor) -> Tensor:
        cost: Tensor = self.method(unary, "potts", self.weights).cost
        return cost


@pytest.mark.parametrize("method", METHODS)
def test_compiles_as_one_graph(method: str) -> None:
    layer = Layer(method)
    unary = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected, found = layer(unary), compiled(unary)
    assert torch.equal(expected, found)
    gradients = [torch.autograd.grad(cost.square().sum(), [unary, layer.weights]) for cost in (expected, found)]
    assert all(torch.equal(mine, other) for mine, other in zip(*gradients, strict=True))


def test_exports() -> None:
    layer, unary = Layer("trwp").eval(), torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(layer, (unary,))
    assert torch.equal(exported.module()(unary), layer(unary))
