from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranp.adapters import mrf
from ranp.errors import UsageError

METHODS = ["trwp", "isgmr", "sgm", "mean_field"]


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", METHODS)
def test_the_layer_is_the_function_on_costs(method: str) -> None:
    scores = logits(2, 3, 5, 6)
    layer = mrf.MRFLayer(method, 3, pairwise=mrf.truncated_linear(1.5), strength=0.7, iterations=2)
    unary = -torch.log_softmax(scores, 1)
    expected = getattr(mrf, method)(unary, mrf.truncated_linear(1.5), 0.7, 4, 2).cost
    torch.testing.assert_close(layer(scores), -expected)


def test_noise_inside_a_region_is_removed_and_the_edge_of_the_image_kept() -> None:
    truth = torch.zeros(1, 12, 12, dtype=torch.long)
    truth[:, :, 6:] = 1
    image = truth[:, None].float()
    noisy = 2 * nn.functional.one_hot(truth, 2).permute(0, 3, 1, 2) + 2 * logits(1, 2, 12, 12)
    layer = mrf.MRFLayer("trwp", 2, strength=3.0)
    assert bool((noisy.argmax(1) != truth).any())
    assert torch.equal(layer(noisy, mrf.contrast_weights(image)).argmax(1), truth)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("shape", "directions"), [((2, 3, 4, 5), 8), ((1, 3, 2, 3, 4), 6)])
def test_everything_learns(method: str, shape: tuple[int, ...], directions: int) -> None:
    options: dict[str, Any] = {"directions": directions, "iterations": 2, "learn_weights": True, "learn_pairwise": True}
    layer = mrf.MRFLayer(method, 3, **options)
    scores = logits(*shape).requires_grad_()
    nn.functional.cross_entropy(layer(scores), torch.zeros(shape[0], *shape[2:], dtype=torch.long)).backward()
    for name, tensor in {"logits": scores, **dict(layer.named_parameters())}.items():
        assert tensor.grad is not None, name
        assert bool(tensor.grad.isfinite().all()), name
        assert float(tensor.grad.abs().sum()) > 0, name
    assert layer.log_weights.shape == (directions // 2,)


def test_gradients_in_float64() -> None:
    layer = mrf.MRFLayer("trwp", 3, iterations=2, learn_weights=True, learn_pairwise=True).double()
    scores = logits(1, 3, 3, 4).double().requires_grad_()
    edges = torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    assert layer(scores).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda s, e, *_: layer(s, e), (scores, edges, *layer.parameters()))


@pytest.mark.parametrize("learn", [True, False])
def test_state_dict_round_trip(learn: bool) -> None:
    matrix = torch.tensor([[0.0, 2.0], [1.0, 0.5]])
    options: dict[str, Any] = {"learn_weights": learn, "learn_pairwise": learn}
    trained = mrf.MRFLayer("isgmr", 2, pairwise=matrix, strength=1.3, **options)
    other = mrf.MRFLayer("isgmr", 2, pairwise=torch.zeros(2, 2), **options)
    scores = logits(1, 2, 4, 4)
    assert not torch.equal(trained(scores), other(scores))
    other.load_state_dict(trained.state_dict())
    assert torch.equal(trained(scores), other(scores))
    assert len(list(trained.parameters())) == (2 if learn else 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    layer = mrf.MRFLayer("mean_field", 3, learn_pairwise=True)
    scores = logits(1, 3, 4, 5).to(dtype)
    assert torch.equal(layer(scores), layer(scores.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(scores)
    assert found.dtype == torch.float32
    assert torch.equal(found, layer(scores.float()))


@pytest.mark.parametrize("method", METHODS)
def test_compiles_into_one_graph(method: str) -> None:
    layer = mrf.MRFLayer(method, 3, iterations=2, learn_weights=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    scores, again = logits(1, 3, 4, 5).requires_grad_(), logits(1, 3, 4, 5).requires_grad_()
    found, expected = compiled(scores), layer(again)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(scores.grad, again.grad)


@pytest.mark.parametrize("method", METHODS)
def test_exports(method: str) -> None:
    layer = mrf.MRFLayer(method, 3, iterations=2).eval()
    program = torch.export.export(layer, (logits(1, 3, 4, 5),))
    scores = logits(1, 3, 4, 5, seed=3)
    torch.testing.assert_close(program.module()(scores), layer(scores))


def test_an_empty_batch_stays_empty() -> None:
    assert mrf.MRFLayer("trwp", 2)(torch.zeros(0, 2, 3, 3)).shape == (0, 2, 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "trpw"}, "did you mean 'trwp'"),
        ({"strength": 0.0}, "strength=0.0: expected a positive"),
        ({"iterations": 0}, "iterations=0"),
        ({"labels": 0}, "labels=0"),
        ({"pairwise": "pots"}, "did you mean 'potts'"),
        ({"pairwise": torch.zeros(3, 3)}, r"expected a matrix of shape \(2, 2\)"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mrf.MRFLayer(**options)


def test_other_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="expected 2 channels, the layer's labels"):
        mrf.MRFLayer("trwp", 2)(logits(1, 3, 4, 4))


def test_what_print_shows() -> None:
    assert repr(mrf.MRFLayer("sgm", 2)) == "MRFLayer(sgm, potts, labels=2, directions=4, iterations=5)"
