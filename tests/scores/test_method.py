import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ranp.errors import UnsupportedError, UsageError
from ranp.graph.build import trace
from ranp.scores import Scores, importance

GRADIENTS = ["mpmg", "mnmg", "mnmg-paper", "snip"]
Built = TypeVar("Built")


def seeded(build: Callable[[], Built]) -> Built:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def network(*, dropout: float = 0.0, norm: bool = True) -> nn.Sequential:
    def layers() -> list[nn.Module]:
        middle = nn.BatchNorm2d(4) if norm else nn.Identity()
        return [nn.Conv2d(1, 4, 3), middle, nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(4, 3, 3)]

    return nn.Sequential(*seeded(layers))


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([0, 2])) for _ in range(count)]


def loss(outputs: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(2).mean(2), target)


def score(model: nn.Module, data: Iterable[Any] | None = None, method: str = "mpmg", **options: Any) -> Scores:
    return importance(
        model,
        trace(model, batches()[0][0]),
        batches() if data is None else data,
        options.pop("loss", loss),
        method,
        **options,
    )


def same(one: Scores, other: Scores) -> bool:
    return all(np.array_equal(values, other.neurons[name]) for name, values in one.neurons.items())


def test_batches_are_averaged_alike() -> None:
    model = network()
    each = [score(model, [batch]) for batch in batches()]
    together = score(model)
    assert together.batches == 3
    for name, values in together.neurons.items():
        np.testing.assert_allclose(values, np.mean([one.neurons[name] for one in each], axis=0), rtol=1e-12)


def test_signed_gradients_are_averaged_before_the_absolute_value() -> None:
    model = network(norm=False)
    inputs, target = batches(1)[0]
    graph = trace(model, inputs)

    def signed(outputs: Tensor, sign: Tensor) -> Tensor:
        return sign * loss(outputs, target)

    opposite = [(inputs, torch.tensor(1.0)), (inputs, torch.tensor(-1.0))]
    cancelled = importance(model, graph, opposite, signed, "mnmg").neurons["0.weight"]
    added = importance(model, graph, opposite, signed, "mpmg").neurons["0.weight"]
    assert np.abs(cancelled).max() < 1e-9 < added.min()


@pytest.mark.parametrize("method", [*GRADIENTS, "l1"])
@pytest.mark.filterwarnings("ignore:mnmg-paper")  # it says that it is noise behind a norm
def test_model_and_generators_are_left_as_they_were(method: str) -> None:
    model = network(dropout=0.5)
    model.eval()[4].train()
    model[0].weight.requires_grad_(False)
    model[4].bias.grad = torch.ones(3)
    model[0].register_forward_hook(lambda *_: None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator, random = torch.get_rng_state(), np.random.get_state()[1].copy()
    scores = score(model, method=method, zero_conv_biases=True)
    assert scores.neurons["0.weight"].min() >= 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model] == [False, False, False, False, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert [p.grad is None for p in model.parameters()] == [True] * 5 + [False]
    assert model[4].bias.grad.equal(torch.ones(3))
    assert len(model[0]._forward_hooks) == 1
    assert torch.equal(torch.get_rng_state(), generator)
    assert np.array_equal(np.random.get_state()[1], random)


def test_inputs_survive_networks_that_write_into_them() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), *network())
    data = batches()
    kept = [inputs.clone() for inputs, _ in data]
    assert score(model, data).batches == 3
    assert all(torch.equal(inputs, before) for (inputs, _), before in zip(data, kept, strict=True))


def test_same_seed_same_scores_with_dropout() -> None:
    model = network(dropout=0.5)
    assert same(score(model, seed=1), score(model, seed=1))
    assert not same(score(model, seed=1), score(model, seed=2))


def test_batches_drawn_from_the_global_generator_follow_the_seed() -> None:
    model = network()

    def drawn() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(2):
            yield torch.randn(2, 1, 8, 8), torch.tensor([0, 1])

    state = torch.get_rng_state()
    assert same(score(model, drawn(), seed=3), score(model, drawn(), seed=3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_are_the_same_where_gradients_are_off(mode: Any) -> None:
    model = network()
    graph = trace(model, batches()[0][0])
    with mode():
        found = importance(model, graph, batches(), loss)
    assert same(found, score(model))


@pytest.mark.parametrize(("method", "reduce"), [("mpmg", "sum"), ("mpmg", "max"), ("mnmg", "mean"), ("snip", "sum")])
def test_memory_does_not_grow_with_the_number_of_batches(method: str, reduce: str) -> None:
    alive = []

    def counting(outputs: Tensor, target: Tensor) -> Tensor:
        gc.collect()
        alive.append(sum(each.numel() for each in gc.get_objects() if issubclass(type(each), Tensor)))
        return loss(outputs, target)

    model = network()
    stream = (batches(1)[0] for _ in range(8))
    gc.collect()
    gc.freeze()  # what other tests left in the process does not count
    try:
        assert score(model, stream, method, reduce=reduce, loss=counting).batches == 8
    finally:
        gc.unfreeze()
    assert len(set(alive[2:])) == 1


def test_progress_wraps_the_batches() -> None:
    seen = []

    def watched(items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            seen.append(item)
            yield item

    model = network()
    assert same(score(model, progress=watched), score(model))
    assert len(seen) == 3


@pytest.mark.parametrize("pack", [tuple, list, lambda pair: {"left": pair[0], "right": pair[1]}])
def test_inputs_may_be_a_tuple_a_list_or_keywords(pack: Any) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            out: Tensor = self.conv(left) * self.conv(right)
            return out

    model = seeded(Two)
    pairs = [((inputs, inputs + 1), target) for inputs, target in batches()]
    graph = trace(model, pairs[0][0])
    found = importance(model, graph, [(pack(pair), target) for pair, target in pairs], loss)
    assert list(found.neurons) == ["conv.weight"]
    assert same(found, importance(model, graph, pairs, loss))
    assert found.neurons["conv.weight"].min() > 0


def test_a_shared_layer_is_scored_once_with_both_its_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 1, 3, padding=1)
            self.again = self.first
            self.last = nn.Conv2d(1, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.again(self.first(x)))
            return out

    model = seeded(Twice).double()
    inputs, target = batches(1)[0][0].double(), batches(1)[0][1]
    found = importance(model, trace(model, inputs), [(inputs, target)], loss)
    assert list(found.neurons) == ["first.weight", "last.weight"]
    loss(model(inputs), target).backward()
    by_hand = sum(float((p * p.grad).abs().sum().detach()) for p in model.first.parameters() if p.grad is not None)
    assert found.neurons["first.weight"][0] == pytest.approx(by_hand, rel=1e-12)


def test_a_weight_computed_from_parameters_is_scored_by_its_direction() -> None:
    model = network(norm=False)
    parametrizations.weight_norm(model[0])
    name = "0.parametrizations.weight.original1"
    found = score(model, method="l1")
    values = model.get_parameter(name).detach().abs().flatten(1).double().sum(1) + model[0].bias.detach().abs()
    np.testing.assert_allclose(found.neurons[name], values.numpy(), rtol=1e-6)
    assert score(model).neurons[name].min() > 0
    with pytest.warns(UserWarning, match="mnmg: the scores of 1 layers are little but rounding noise"):
        score(model, method="mnmg")  # its length is normalised away


@pytest.mark.parametrize("method", GRADIENTS)
@pytest.mark.filterwarnings("ignore:mnmg-paper")  # it says that it is noise behind a norm
def test_a_layer_the_loss_does_not_use_scores_zero(method: str) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.unused = network(), nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.body(x), self.unused(x)

    found = score(seeded(Head), method=method, loss=lambda outputs, target: loss(outputs[0], target))
    assert found.neurons["unused.weight"].tolist() == [0, 0]
    assert found.neurons["body.4.weight"].min() > 0


def test_conv_biases_can_be_zero_while_scoring() -> None:
    model = network(norm=False)
    zeroed = network(norm=False)
    for layer in (zeroed[0], zeroed[4]):
        nn.init.zeros_(layer.bias)
    assert same(score(model, zero_conv_biases=True), score(zeroed))
    assert not same(score(model), score(zeroed))
    assert score(model, method="snip", zero_conv_biases=True).elements["0.bias"].tolist() == [0] * 4


def test_linear_biases_stay() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    plain = importance(model, trace(model, torch.zeros(1, 1, 8, 8)), method="l1", zero_conv_biases=True)
    by_hand = model[1].weight.detach().abs().double().sum(1) + model[1].bias.detach().abs()
    np.testing.assert_allclose(plain.neurons["1.weight"], by_hand.numpy(), rtol=1e-6)


def test_summary_gives_least_mean_and_largest() -> None:
    found = score(network(), method="l1").summary()["0.weight"]
    values = score(network(), method="l1").neurons["0.weight"]
    assert found == {"min": values.min(), "mean": pytest.approx(values.mean()), "max": values.max()}


def test_published_form_warns_behind_a_norm_and_ours_does_not() -> None:
    with pytest.warns(UserWarning, match=r"mnmg-paper: the scores of 1 layers .* 0\.weight among them"):
        score(network(), method="mnmg-paper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(network(), method="mnmg").neurons["0.weight"].min() > 0
        assert score(network(norm=False), method="mnmg-paper").neurons["0.weight"].min() > 0


def test_mnmg_warns_of_norms_without_weights_and_of_depthwise_ones() -> None:
    model = network()
    model[1] = nn.InstanceNorm2d(4)
    with pytest.warns(UserWarning, match=r"mnmg: the scores of 1 layers .* 0\.weight among them"):
        score(model, method="mnmg")
    tail = seeded(lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)))
    deep = nn.Sequential(*network()[:3], *tail)
    with pytest.warns(UserWarning, match=r"mnmg: the scores of 1 layers .* 0\.weight among them"):
        found = score(deep, method="mnmg").neurons
    assert found["0.weight"].mean() < 1e-2 * found["3.weight"].mean()


def test_layer_norm_over_positions_does_not_stand_for_channels() -> None:
    """Its gamma has one element per column, as many as the convolution has channels."""
    layers = seeded(lambda: nn.Sequential(nn.Conv2d(1, 6, 3), nn.LayerNorm(6), nn.ReLU(), nn.Conv2d(6, 3, 3)))
    model = layers.double()  # the sums almost cancel: in float32 little but rounding is left of them
    inputs, target = batches(1)[0][0].double(), batches(1)[0][1]
    graph = trace(model, inputs)
    with pytest.warns(UserWarning, match=r"0\.weight among them"):  # the filter's scale does not count there either
        found = importance(model, graph, [(inputs, target)], loss, "mnmg").neurons["0.weight"]
    loss(model(inputs), target).backward()
    weight, bias = model[0].weight, model[0].bias
    assert weight.grad is not None
    by_hand = ((weight * weight.grad).flatten(1).sum(1) + bias * bias.grad).abs()
    np.testing.assert_allclose(found, by_hand.detach().numpy(), rtol=1e-6)


GOOD = batches(2)
BAD_INPUT = torch.full((2, 1, 8, 8), float("nan"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mpgm"}, r"method='mpgm': expected mpmg, .*did you mean 'mpmg'"),
        ({"reduce": "average"}, "reduce='average': expected sum, mean or max"),
        ({"transposed": "output"}, "did you mean 'outputs'"),
        ({"data": []}, "there are none"),
        ({"data": [*GOOD, (BAD_INPUT, GOOD[0][1])]}, "batch 3: the inputs hold NaN"),
        ({"data": [*GOOD, (GOOD[0][0] * float("inf"), GOOD[0][1])]}, "batch 3: the inputs hold NaN or infinite"),
        ({"data": [GOOD[0][0]]}, r"batch 1: a Tensor; expected a pair \(inputs, target\)"),
        ({"data": [("scan.nii", GOOD[0][1])]}, "batch 1: inputs are a str"),
        ({"data": [(torch.zeros(2, 5, 8, 8), GOOD[0][1])]}, r"batch 1: the network does not run .* \(2, 5, 8, 8\)"),
        ({"data": [(GOOD[0][0], torch.tensor([0, 9]))]}, "batch 1: the loss does not run: IndexError"),
        ({"loss": lambda *_: torch.tensor(float("nan"))}, "batch 1: the loss is nan"),
        ({"loss": lambda *_: 1.0}, "batch 1: the loss is a float; expected a scalar tensor"),
        ({"loss": lambda outputs, _: outputs.flatten(1).mean(1)}, r"batch 1: the loss has shape \(2,\)"),
        ({"loss": lambda outputs, _: outputs.detach().sum()}, "batch 1: the loss does not depend"),
        ({"loss": lambda outputs, _: (outputs - outputs).abs().sum().sqrt()}, "batch 1: the gradient of .* not finite"),
        ({"device": "gpu"}, "device='gpu'"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        score(network(), **options)
    assert "\n" not in str(error.value)


def test_gradient_methods_need_batches() -> None:
    model = network()
    graph = trace(model, batches()[0][0])
    with pytest.raises(UsageError, match="method 'snip' needs batches and a loss"):
        importance(model, graph, method="snip")
    with pytest.raises(UsageError, match="expected the trace of this model"):
        importance(nn.Conv2d(1, 1, 1), graph, method="l1")


def test_weights_that_are_not_finite_are_named() -> None:
    model = network()
    nn.init.constant_(model[4].weight, float("inf"))
    with pytest.raises(UsageError, match=r"the value of 4\.weight is not finite"):
        score(model, method="l1")


def test_a_network_without_layers_is_refused() -> None:
    model = network()
    graph = replace(trace(model, batches()[0][0]), layers=())
    with pytest.raises(UnsupportedError, match="no convolution or linear layer"):
        importance(model, graph, method="l1")


def test_a_loss_without_a_gradient_is_refused_after_the_first_batch() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, 1))
    inputs, target = torch.randn(1, 1, 6, 6), torch.zeros(1, 4, 4, dtype=torch.long)  # one class: certain
    seen = []

    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        for number in (1, 2):
            seen.append(number)
            yield inputs, target

    with pytest.raises(
        UsageError, match=r"^batch 1: the loss does not depend on the network: its gradient is zero for"
    ):
        importance(model, trace(model, inputs), loader(), nn.functional.cross_entropy)
    assert seen == [1]


def test_scores_that_are_all_zero_are_said() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    inputs, target = torch.randn(1, 1, 6, 6), torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.warns(UserWarning, match="every score is zero"):  # of the last bias there is a gradient
        scores = importance(model, trace(model, inputs), [(inputs, target)], nn.functional.cross_entropy)
    assert not any(values.any() for values in scores.neurons.values())
