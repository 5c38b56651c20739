"""trace(): what it refuses, what it leaves alone, and what the user fixes."""

import random

import numpy as np
import pytest
import torch
from graph_zoo.checking import check, randomise
from torch import Tensor, nn

from ranp.errors import UnsupportedError, UsageError
from ranp.graph.build import trace
from ranp.graph.tape import Kind

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


class Net(nn.Module):
    """Draws, counts its calls in a buffer, and may fail in the middle."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.fails, self.last = fails, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.norm(self.a(x)) + torch.rand(1).item() + random.random() + np.random.rand()
        self.last = x
        if self.fails:
            raise RuntimeError("out of order")
        return self.b(x)


def state(net: nn.Module) -> list[object]:
    """Return everything a trace must leave alone."""
    modules = list(net.modules())
    return [
        [(name, each.clone()) for name, each in net.state_dict().items()],
        [(name, id(each), each.requires_grad) for name, each in net.named_parameters()],
        [(module.training, dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in modules],
        [sorted(vars(module)) for module in modules],
    ]


def same(a: list[object], b: list[object]) -> bool:
    tensors = all(x[0] == y[0] and torch.equal(x[1], y[1]) for x, y in zip(a[0], b[0], strict=True))  # type: ignore[call-overload]
    return tensors and a[1:] == b[1:]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_generators_are_left_alone(fails: bool) -> None:
    net = Net(fails)
    net.norm.eval()
    net.a.weight.requires_grad_(False)
    seen: list[str] = []
    net.a.register_forward_hook(lambda *_: seen.append("a"))
    before = state(net)
    draws = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    if fails:
        with pytest.raises(UnsupportedError, match="out of order"):
            trace(net, torch.zeros(1, 3, 8, 8))
    else:
        trace(net, torch.zeros(1, 3, 8, 8))
    assert same(before, state(net))
    assert net.last is None
    assert torch.equal(draws[0], torch.get_rng_state())
    assert (draws[1], draws[2]) == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_network_that_fails_when_slim_only_is_frozen_not_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            if x.shape[1] != 8:
                raise ValueError("eight, please")
            return self.b(x)

    graph = trace(Counts(), torch.zeros(1, 3, 8, 8))
    (group,) = [each for each in graph.groups if each.name == "a"]
    assert graph.frozen[group.units].all()
    assert "fixed size" in str(graph.reason_of(group))


def test_what_the_user_fixes_stays() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 2, 3))
    graph = trace(net, torch.zeros(1, 1, 8, 8), freeze=["0"])
    reasons = {group.name: graph.reason_of(group) for group in graph.groups}
    assert reasons == {"0": "fixed by the user (0)", "1": None, "2": "network output"}


def test_a_glob_that_matches_nothing_names_the_nearest() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3))
    with pytest.raises(UsageError, match="--freeze O matches"):
        trace(net, torch.zeros(1, 1, 8, 8), freeze=["O"])


@pytest.mark.parametrize(("model", "inputs"), [("no module", torch.zeros(1)), (nn.Conv2d(1, 1, 1), 3)])
def test_bad_arguments(model: nn.Module, inputs: Tensor) -> None:
    with pytest.raises(UsageError, match="expected"):
        trace(model, inputs)


def test_lazy_modules_must_run_once_first() -> None:
    with pytest.raises(UnsupportedError, match="run the model once"):
        trace(nn.Sequential(nn.LazyConv2d(4, 3)), torch.zeros(1, 1, 8, 8))


def test_units_of_two_convolutions() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3)), torch.zeros(1, 1, 8, 8))
    widths = [(group.name, len(group.units), graph.reason_of(group)) for group in graph.groups]
    assert widths == [("0", 2, None), ("2", 4, "network output")]
    first = graph.groups[0].units
    assert graph.parameters["0.weight"].dims[0].tolist() == first.tolist()
    assert graph.parameters["2.weight"].dims[1].tolist() == first.tolist()


def test_what_ran_holds_units() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(2, 2), nn.ReLU(), nn.Conv2d(2, 4, 3))
    graph = trace(net, torch.zeros(1, 1, 8, 8))
    units = [
        [field.ravel().tolist() for flow in (*record.inputs, *record.outputs[:1]) for field in flow.fields]
        for record in graph.runs["eval"].records
        if record.kind in (Kind.CONVOLUTION, Kind.ELEMENTWISE)
    ]
    first, last = (layer.units.tolist() for layer in graph.layers)
    assert units == [[first], [first, first], [first, last]]
    assert [flow.fields[0].ravel().tolist() for flow in graph.runs["eval"].outputs] == [last]


def test_a_squeeze_needs_two_channels() -> None:
    class Squeezes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 8), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).squeeze())

    graph = trace(Squeezes(), torch.zeros(1, 1, 8, 8))
    assert dict(zip((group.name for group in graph.groups), graph.least, strict=True))["a"] == 2


def test_a_network_without_units() -> None:
    graph = trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2))
    assert (graph.count, graph.groups) == (0, ())


def test_layers_that_never_ran_are_named() -> None:
    class Far(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.far, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(self.far(x) if x.sum().item() == 0.125 else x)

    graph = trace(Far(), torch.ones(1, 3, 4, 4))
    assert graph.notes[0] == "never ran, keeps its full size: far"


def test_what_keeps_as_many_as_what_stays_is_frozen_too() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            first, second = self.norm(self.a(x)).chunk(2, 1)
            return first, self.b(second)

    graph = trace(Halves(), torch.zeros(1, 3, 4, 4))
    units = graph.parameters["a.weight"].dims[0]
    reasons = [graph.reasons[unit] for unit in units]
    assert reasons == ["network output"] * 4 + ["keeps as many as what stays: network output"] * 4


@pytest.mark.parametrize("first", [2, 3])
def test_a_written_cut_freezes_what_lies_before_it_and_says_where(first: int) -> None:
    """Two shuffles leave two units of four channels each, of which those stay that have a channel before the cut."""

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for _ in range(2):
                b, c, h, w = x.shape
                x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
            return self.head(torch.cat([x[:, first:], x[:, :first]], 1))

    graph = trace(Shuffled(), torch.zeros(1, 2, 8, 8))
    units = graph.parameters["stem.weight"].dims[0]
    (reason,) = {why for unit in units if (why := graph.reasons[unit]) is not None}
    assert reason.startswith("fixed size in slice at the top (test_build.py:")
    check(graph, randomise(Shuffled().double()), (torch.randn(1, 2, 8, 8, dtype=torch.float64),), 0.5, 1)
