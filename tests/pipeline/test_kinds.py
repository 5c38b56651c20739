"""Modules that can't be pruned are refused in one line with the way out; modes of the caller change nothing."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

import ranp

EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [(EXAMPLE, torch.ones(2, 8, 8, dtype=torch.long))]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
    ).eval()


def prune(net: nn.Module, **options: object) -> ranp.Result:
    given = {"batches": BATCHES, "loss": nn.functional.cross_entropy, "sparsity": 0.4, **options}
    return ranp.prune(net, EXAMPLE, **given)


def quiet(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def static() -> nn.Module:
    tools = torch.ao.quantization
    net = nn.Sequential(tools.QuantStub(), *network(), tools.DeQuantStub()).eval()
    net.qconfig = tools.get_default_qconfig("fbgemm")
    prepared = tools.prepare(net)
    prepared(EXAMPLE)
    return tools.convert(prepared)


def dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, 2)))


class Int8(nn.Module):
    """A linear layer of whole numbers, as libraries of quantisation make it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 1)
        self.head = nn.Module()
        self.head.weight = nn.Parameter(torch.ones(2, 8, 1, 1, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return nn.functional.conv2d(self.first(x), self.head.weight.float())


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "scripted": (lambda: torch.jit.script(network()), "TorchScript.*give the module it was scripted or traced from"),
    "traced": (lambda: torch.jit.trace(network(), EXAMPLE), "TorchScript"),
    "traced in parallel": (lambda: nn.DataParallel(torch.jit.trace(network(), EXAMPLE)), "TorchScript"),
    "meta": (lambda: network().to("meta"), r"0\.weight is on the meta device.*to_empty"),
    "partly meta": (lambda: nn.Sequential(network(), nn.Conv2d(2, 2, 1, device="meta")), r"1\.weight is on the meta"),
    "static": (static, r"0: a Quantize with quantised weights: .* quantise the slim one"),
    "dynamic": (dynamic, r"2: a Linear with quantised weights"),
    "int8": (Int8, "head: a Module with quantised weights"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("options", [{}, {"rule": "random"}, {"method": "l1"}], ids=str)
def test_what_can_not_be_cut_is_refused_in_one_line(name: str, options: dict[str, str]) -> None:
    make, said = REFUSED[name]
    with pytest.raises(ranp.UnsupportedError, match=said) as caught:
        prune(quiet(make), **options)
    assert "\n" not in str(caught.value)
    assert "defect" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_scripted_part_stays_as_it_is() -> None:
    net = nn.Sequential(quiet(lambda: torch.jit.script(network())), nn.Conv2d(2, 8, 1), nn.Conv2d(8, 2, 1))
    result = prune(net, allow_less=True)  # the scripted channels may not go
    assert result.report.verify.passed
    assert result.slim[1].out_channels < 8


class Plain(nn.Module):
    """Convolutions in a list and a dict, which torch does not see."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.many = [nn.Conv2d(8, 6, 3, padding=1), {"one": (nn.Conv2d(6, 8, 1),)}]
        self.free, self.after = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.many[1]["one"][0](self.many[0](self.first(x).relu()).relu())
        return self.head(self.after(self.free(x).relu()).relu())


@pytest.mark.parametrize("options", [{}, {"method": "l1"}], ids=str)
def test_convolutions_in_lists_and_dicts_freeze_what_they_meet(options: dict[str, str]) -> None:
    net = Plain()
    result = prune(net, **options)
    assert result.report.verify.passed
    assert result.slim.first.out_channels == 8
    assert result.slim.free.in_channels == 8
    assert result.slim.free.out_channels + result.slim.after.out_channels < 16
    assert net.many[0].weight.dtype == torch.float32
    assert net.many[0].weight.requires_grad
    assert result.slim.many[0] is not net.many[0]
    said = "layers in plain lists or dicts keep their size, with what they meet: Conv2d; nn.ModuleList shows them"
    assert said in result.report.notes


class Autocast(nn.Module):
    """Runs in half precision by itself; one that reads a value is traced on real tensors."""

    def __init__(self, *, reads: bool) -> None:
        super().__init__()
        self.net, self.reads = network(), reads

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        if self.reads and x.sum().item() > 1e9:
            x = x + 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.net(x).float()


class ByHand(nn.Module):
    """Casts weights and biases itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        first, *rest = self.net
        weight, bias = first.weight.bfloat16(), first.bias.bfloat16()
        x = nn.functional.conv2d(x.bfloat16(), weight, bias, padding=1).float()
        return nn.Sequential(*rest)(x)


@pytest.mark.parametrize("make", [lambda: Autocast(reads=False), lambda: Autocast(reads=True), ByHand])
def test_a_bias_that_is_cast_keeps_its_part_of_the_score(make: Callable[[], nn.Module]) -> None:
    graph = ranp.trace(make(), EXAMPLE)
    assert [layer.bias for layer in graph.layers] == ["net.0.bias", "net.3.bias", "net.4.bias"]
    alone = prune(network(), method="l1")
    result = prune(make(), method="l1")
    for name, values in alone.scores.neurons.items():
        assert result.scores.neurons[f"net.{name}"] == pytest.approx(values)
    assert result.report.verify.passed


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "plain": nullcontext,
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inside", [False, True])
def test_modes_of_the_caller_change_nothing(mode: str, inside: bool) -> None:
    alone = prune(network())
    net = network() if not inside else None
    with MODES[mode]():
        result = prune(net or network())  # inside, the weights are tensors of inference mode
        again = ranp.slim(net or network(), result.plan)
        assert ranp.verify(net or network(), again, result.plan, EXAMPLE).max_rel_diff < 1e-9
        result.slim(EXAMPLE)
    assert result.plan.to_json() == alone.plan.to_json()
    assert not any(each.is_inference() for each in [*result.slim.parameters(), *again.parameters()])
    result.slim.train()(EXAMPLE).square().sum().backward()
    assert all(each.grad is not None for each in result.slim.parameters())
