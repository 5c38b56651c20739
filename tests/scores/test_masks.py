"""Scores against the definition: explicit all-ones masks and autograd, neurons picked out channel by channel."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.graph.tape import Layer
from ranp.scores import importance

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
METHODS = ["mpmg", "mnmg", "mnmg-paper", "snip", "l1"]


def without_norm(dims: int) -> nn.Module:
    """Dense, depthwise, grouped, transposed and grouped transposed convolutions, with and without bias."""
    conv, up = CONV[dims], TRANSPOSED[dims]
    return nn.Sequential(
        *(conv(2, 4, 3), nn.ReLU(), conv(4, 8, 3, groups=4), conv(8, 6, 1, groups=2, bias=False), nn.ReLU()),
        *(up(6, 4, 2, groups=2), up(4, 6, 2, bias=False), nn.ReLU(), up(6, 6, 2, groups=6), conv(6, 3, 1)),
    )


def with_norm(dims: int) -> nn.Module:
    conv, up, norm = CONV[dims], TRANSPOSED[dims], NORM[dims]
    return nn.Sequential(
        *(conv(2, 4, 3, bias=False), norm(4), nn.ReLU(), conv(4, 8, 3, groups=2), norm(8), nn.ReLU()),
        *(up(8, 6, 2), norm(6), nn.PReLU(6), conv(6, 5, 1), nn.ReLU(), conv(5, 3, 1)),
    )


def with_linear(dims: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(2 * 7**dims, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.Linear(5, 3)
    )


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    **{f"plain-{dims}d": (without_norm, dims) for dims in (1, 2, 3)},
    **{f"norm-{dims}d": (with_norm, dims) for dims in (1, 2, 3)},
    "linear": (with_linear, 1),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Graph, list[tuple[Tensor, Tensor]]]:
    build, dims = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(dims).to(dtype)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        batches = [(torch.randn(2, 2, *[7] * dims, dtype=dtype), torch.tensor([0, 2])) for _ in range(3)]
    return model, trace(model, batches[0][0]), batches


def loss(outputs: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(2).mean(2) if outputs.ndim > 2 else outputs, target)


def mask_gradients(model: nn.Module, batches: list[Any]) -> list[dict[str, Tensor]]:
    """Gradients of a mask on every element of every parameter, batch by batch."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    found = []
    for inputs, target in batches:
        masks = {name: torch.ones_like(p, requires_grad=True) for name, p in parameters.items()}
        masked = {name: p * masks[name] for name, p in parameters.items()}
        value = loss(functional_call(model.train(), masked, (inputs,)), target)
        gradients = torch.autograd.grad(value, list(masks.values()))
        found.append(dict(zip(masks, gradients, strict=True)))
    return found


def filter_of(weight: Tensor, layer: Layer, channel: int) -> Tensor:
    """The elements of one output channel."""
    if layer.out_dim == 0:
        return weight[channel].flatten()
    group, column = divmod(channel, weight.shape[1])
    inputs = len(weight) // layer.groups
    return weight[group * inputs : (group + 1) * inputs, column].flatten()


def reduced(elements: Tensor, bias: Tensor | None, reduce: str) -> float:
    if reduce == "max":
        return abs(float(elements.max()))
    both = elements if bias is None else torch.cat([elements, bias.reshape(1)])
    return abs(float(both.sum() if reduce == "sum" else both.mean()))


def expected(model: nn.Module, graph: Graph, batches: list[Any], method: str, reduce: str) -> dict[str, NDArray[Any]]:
    if method == "l1":
        found = [{name: p.detach().abs() for name, p in model.named_parameters()}]
    else:
        found = mask_gradients(model, batches)
    if method in ("mpmg", "snip"):
        found = [{name: each.abs() for name, each in one.items()} for one in found]
    mean = {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}
    scores = {}
    for layer in graph.layers:
        values = []
        for channel in range(len(layer.units)):
            elements = filter_of(mean[layer.name], layer, channel)
            bias = mean[layer.bias][channel] if layer.bias else None
            if method == "mnmg" and layer.norm:
                neuron = mean[layer.norm[0]][channel] + mean[layer.norm[1]][channel]
                size = len(elements) + (bias is not None) if reduce == "mean" else 1
                values.append(abs(float(neuron)) / size)
            else:
                values.append(reduced(elements, bias, reduce))
        scores[layer.name] = np.array(values)
    return scores


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_equal_those_of_explicit_masks(name: str, method: str, reduce: str) -> None:
    model, graph, batches = made(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the published form says that it is noise behind a norm
        scores = importance(model, graph, batches, loss, method, reduce)
    wanted = expected(model, graph, batches, method, reduce)
    assert list(scores.neurons) == [layer.name for layer in graph.layers]
    assert scores.batches == (0 if method == "l1" else 3)
    for layer, values in wanted.items():
        assert scores.neurons[layer].dtype == np.float64
        np.testing.assert_allclose(scores.neurons[layer], values, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", ["mpmg", "mnmg", "snip"])
def test_single_precision_networks_agree_to_rounding(method: str) -> None:
    model, graph, batches = made("norm-3d", torch.float32)
    scores = importance(model, graph, batches, loss, method)
    for layer, values in expected(model, graph, batches, method, "sum").items():
        np.testing.assert_allclose(scores.neurons[layer], values, rtol=2e-5, atol=1e-6 * values.max())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_mnmg_behind_a_norm_is_the_mask_on_the_activation(dims: int) -> None:
    """Eq. 5.4: dL/dc of a mask c on the neuron itself, after norm and ReLU."""
    model, graph, batches = made(f"norm-{dims}d")
    scores = importance(model, graph, batches, loss, "mnmg")
    assert isinstance(model, nn.Sequential)
    for conv, activation in (("0.weight", 2), ("3.weight", 5), ("6.weight", 8)):
        signed = torch.zeros(len(scores.neurons[conv]), dtype=torch.float64)
        for inputs, target in batches:
            mask = torch.ones_like(signed, requires_grad=True)
            hidden = model.train()[: activation + 1](inputs)
            value = loss(model[activation + 1 :](hidden * mask.reshape(1, -1, *[1] * dims)), target)
            signed += torch.autograd.grad(value, mask)[0]
        np.testing.assert_allclose(scores.neurons[conv], (signed / 3).abs().numpy(), rtol=1e-9, atol=1e-15)


def test_snip_keeps_the_mean_of_every_element() -> None:
    model, graph, batches = made("plain-2d")
    scores = importance(model, graph, batches, loss, "snip")
    found = mask_gradients(model, batches)
    assert set(scores.elements) == set(dict(model.named_parameters()))
    for name, values in scores.elements.items():
        wanted = torch.stack([one[name].abs() for one in found]).mean(0)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, wanted.numpy(), rtol=1e-6)
    largest = scores.largest_elements(graph)
    for layer in graph.layers:
        mean = torch.from_numpy(scores.elements[layer.name])
        by_hand = [float(filter_of(mean, layer, channel).max()) for channel in range(len(layer.units))]
        if layer.bias:
            by_hand = np.maximum(by_hand, scores.elements[layer.bias]).tolist()
        np.testing.assert_array_equal(largest[layer.name], by_hand)


@pytest.mark.parametrize("method", ["mpmg", "snip", "mnmg", "l1"])
def test_published_neurons_of_transposed_convolutions_are_input_channels(method: str) -> None:
    model, graph, batches = made("plain-2d")
    scores = importance(model, graph, batches, loss, method, transposed="inputs")
    found = [{n: p.detach() for n, p in model.named_parameters()}] if method == "l1" else mask_gradients(model, batches)
    if method != "mnmg":
        found = [{name: each.abs() for name, each in one.items()} for one in found]
    outputs = importance(model, graph, batches, loss, method).neurons
    for layer in graph.layers:
        mean = torch.stack([one[layer.name] for one in found]).mean(0)
        if layer.out_dim == 1:  # (I, O / groups, *kernel); the biases, one per output, don't count
            np.testing.assert_allclose(scores.neurons[layer.name], mean.flatten(1).sum(1).abs().numpy(), rtol=1e-6)
            if method == "snip":
                assert len(scores.largest_elements(graph)[layer.name]) == len(mean)
        else:
            np.testing.assert_array_equal(scores.neurons[layer.name], outputs[layer.name])
