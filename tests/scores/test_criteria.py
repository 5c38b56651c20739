"""Criteria of trained networks against their formulas, filter by filter in float64."""

import re
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ranp
from ranp.errors import UnsupportedError, UsageError
from ranp.options import DATA_FREE, Method
from ranp.scores import Scores

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
BACK = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Net(nn.Module):
    """A layer with a norm, a grouped one without, a transposed one without, and the output."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.first, self.norm = CONV[dims](2, 6, 3, padding=1), NORM[dims](6)
        self.grouped = CONV[dims](6, 4, 3, padding=1, groups=2)
        self.back = BACK[dims](4, 5, 2, bias=False)
        self.last = CONV[dims](5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        out: Tensor = self.last(torch.tanh(self.back(torch.tanh(self.grouped(x)))))
        return out


def network(dims: int = 2) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(dims)
        net = Net(dims).double()
        for parameter in net.parameters():
            nn.init.normal_(parameter)
    return net


def batches(dims: int, count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    shape = (5,) * dims
    return [
        (
            torch.randn(2, 2, *shape, generator=generator, dtype=torch.float64),
            torch.randint(0, 3, (2, *(side + 1 for side in shape)), generator=generator),
        )
        for _ in range(count)
    ]


def scored(net: nn.Module, dims: int, method: str, **options: object) -> Scores:
    inputs = batches(dims)
    graph = ranp.trace(net, inputs[0][0])
    given = (None, None) if method in DATA_FREE else (inputs, F.cross_entropy)
    return ranp.importance(net, graph, *given, method=method, **options)  # type: ignore[arg-type]


def elements(layer: nn.Module, neuron: int, of: Tensor) -> Tensor:
    """The part of a weight, or of its gradient, that makes one output channel; written out by kind."""
    if not layer.transposed:
        return of[neuron]
    return of[:, neuron]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_taylor_is_the_mean_square_of_the_first_order_change(dims: int) -> None:
    net, expected = network(dims), {name: [] for name in ("first", "grouped", "back", "last")}
    for image, target in batches(dims):
        net.zero_grad()
        F.cross_entropy(net(image), target).backward()
        gate = net.norm.weight * net.norm.weight.grad + net.norm.bias * net.norm.bias.grad
        expected["first"].append(gate.detach().square().tolist())
        for name in ("grouped", "back", "last"):
            layer = getattr(net, name)
            changes = []
            for neuron in range(layer.out_channels):
                change = (elements(layer, neuron, layer.weight) * elements(layer, neuron, layer.weight.grad)).sum()
                if layer.bias is not None:
                    change = change + layer.bias[neuron] * layer.bias.grad[neuron]
                changes.append(float(change.detach()) ** 2)
            expected[name].append(changes)
    found = scored(network(dims), dims, "taylor")
    assert found.batches == 3
    for name, values in expected.items():
        assert found.neurons[f"{name}.weight"] == pytest.approx(np.mean(values, 0), rel=1e-9)


def test_taylor_is_no_square_of_a_mean() -> None:
    """Changes of opposite sign in two batches do not cancel."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False))
    nn.init.constant_(net[0].weight, 2.0)
    graph = ranp.trace(net, torch.ones(1, 1))
    pair = [(torch.ones(1, 1), torch.tensor(sign)) for sign in (3.0, -3.0)]
    found = ranp.importance(net, graph, pair, lambda outputs, sign: (outputs * sign).sum(), method="taylor")
    assert found.neurons["0.weight"].tolist() == [36.0, 36.0]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_fpgm_sums_the_distances_to_all_filters_of_the_layer(dims: int) -> None:
    net = network(dims)
    found = scored(net, dims, "fpgm")
    assert found.batches == 0
    for name in ("first", "grouped", "back", "last"):
        layer = getattr(net, name)
        filters = [
            elements(layer, neuron, layer.weight).detach().numpy().ravel() for neuron in range(layer.out_channels)
        ]
        by_hand = [sum(np.sqrt(((one - other) ** 2).sum()) for other in filters) for one in filters]
        assert found.neurons[f"{name}.weight"] == pytest.approx(by_hand, rel=1e-12)


def test_equal_filters_are_at_the_median_exactly() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight[:1].expand(4, -1, -1, -1) * 1e3)
        net[0].weight[3] += 1
    found = ranp.importance(net, ranp.trace(net, torch.zeros(1, 1, 6, 6)), method="fpgm").neurons["0.weight"]
    assert found[0] == found[1] == found[2] > 0
    assert found[3] == pytest.approx(3 * found[0])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_bn_scale_is_the_size_of_gamma_and_elsewhere_that_of_the_weights_in_its_unit(dims: int) -> None:
    net = network(dims)
    found = scored(net, dims, "bn-scale")
    gamma = net.norm.weight.detach().abs().numpy()
    assert found.neurons["first.weight"].tolist() == gamma.tolist()
    for name in ("grouped", "back", "last"):
        layer = getattr(net, name)
        sizes = np.array(
            [float(elements(layer, o, layer.weight).detach().abs().sum()) for o in range(layer.out_channels)]
        )
        if layer.bias is not None:
            sizes += layer.bias.detach().abs().numpy()
        assert found.neurons[f"{name}.weight"] == pytest.approx(sizes / sizes.mean() * gamma.mean(), rel=1e-12)
    said = "3 layers have no affine norm right behind them (grouped, back, last): their |w| stands for it"
    assert said in found.notes


def test_bn_scale_needs_a_norm() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(UnsupportedError, match="bn-scale: no layer has an affine norm right behind it; score with l1"):
        ranp.importance(net, ranp.trace(net, torch.zeros(1, 1, 6, 6)), method="bn-scale")


@pytest.mark.parametrize("method", ["taylor", "fpgm", "bn-scale"])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_neuron_is_scored_as_a_whole(method: str, reduce: str) -> None:
    with pytest.raises(UsageError, match=f"reduce='{reduce}': {method} scores a neuron as a whole; expected sum"):
        scored(network(), 2, method, reduce=reduce)


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.filterwarnings("ignore:mnmg-paper. the scores of 1 layers are little but rounding noise:UserWarning")
def test_every_word_scores_and_leaves_the_network_as_it_was(method: str) -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = scored(net, 2, method)
    assert all(np.isfinite(values).all() and (values >= 0).all() for values in found.neurons.values())
    assert any(values.any() for values in found.neurons.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [len(values) for values in found.neurons.values()] == [6, 4, 5, 3]


def test_a_method_without_data_says_which_others_need_none() -> None:
    net = network()
    with pytest.raises(
        UsageError, match=re.escape("method 'taylor' needs batches and a loss; l1, fpgm and bn-scale need")
    ):
        ranp.importance(net, ranp.trace(net, batches(2)[0][0]), method="taylor")


@pytest.mark.parametrize("method", ["taylor", "fpgm", "bn-scale"])
def test_a_network_is_pruned_by_it(method: str) -> None:
    inputs = batches(2)
    given = {} if method in DATA_FREE else {"batches": inputs, "loss": F.cross_entropy}
    result = ranp.prune(network(), inputs[0][0], sparsity=0.4, method=method, **given)  # type: ignore[arg-type]
    assert result.report.verify.passed
    assert result.report.slim.params < result.report.full.params
