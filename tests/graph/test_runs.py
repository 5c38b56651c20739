"""What runs of one network share: an op that is given the same again is known, and says what its rule would."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from graph_zoo import every
from torch import Tensor, nn

from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.graph.trace import Trace

CASES = ["CalledTwice", "CircularPadding", "CountsPadding", "DeepSupervision", "HeadsByHand", "ReadsAValue", "Siamese"]
CASES += ["TrainingHead", "monai.SegResNetDS", "monai.ViT"]


class Forgetful(dict[Any, Any]):
    """Knows nothing again."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default

    def copy(self) -> "Forgetful":
        return Forgetful()


def told(graph: Graph) -> dict[str, Any]:
    """Return what a graph says of a network, in values that can be compared."""
    return {
        "groups": [(group.name, group.units.tolist()) for group in graph.groups],
        "parameters": {
            name: {dim: units.tolist() for dim, units in members.dims.items()}
            for name, members in graph.parameters.items()
        },
        "frozen": graph.frozen.tolist(),
        "balance": sorted((rows.shape, rows.tobytes()) for rows in graph.balance),
        "sizes": [size.name for size in graph.sizes],
        "notes": graph.notes,
        "runs": {
            name: [(record.outline, record.module, record.site, record.places, record.mixing) for record in run.records]
            for name, run in graph.runs.items()
        },
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_an_op_that_is_known_says_what_its_rule_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = every()[name]
    torch.manual_seed(0)
    same_by_rules(case.build().eval(), case.inputs(), monkeypatch)


def same_by_rules(net: nn.Module, inputs: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    known = told(trace(net, inputs))
    start = Trace.__init__

    def forgetful(self: Trace, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        self.known = Forgetful()

    monkeypatch.setattr(Trace, "__init__", forgetful)
    assert known == told(trace(net, inputs))
    return known


class ByMode(nn.Module):
    """One op, or its like, in either mode."""

    def __init__(self, evaluating: Callable[[Tensor], Tensor], training: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ways = evaluating, training
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x + self.ways[self.training](x).reshape(x.shape))


def as_wide(x: Tensor, written: bool) -> Tensor:
    return x.reshape(1, 8 if written else x.shape[1], 64)


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    return x.clone(memory_format=layout).as_strided(x.shape, (64 * x.shape[1], 64, 8, 1))


def cut_out(x: Tensor, place: int) -> Tensor:
    return torch.cat([x, x]).narrow(0, place, 1).as_strided(x.shape, (64 * x.shape[1], 64, 8, 1), 0)


def filled(x: Tensor, kind: torch.dtype) -> Tensor:
    x = x.clone()
    x[(x > 0).long().to(kind)] = 0.0
    return x


WAYS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "op": (torch.relu, torch.sigmoid),
    "argument": (partial(torch.flip, dims=(2,)), partial(torch.flip, dims=(1,))),
    "part": (lambda x: torch.complex(x, x).real, lambda x: torch.complex(x, x).imag),  # which only the op's place tells
    "number": (partial(torch.mul, other=2), partial(torch.mul, other=3)),
    "kind of number": (partial(torch.mul, other=2), partial(torch.mul, other=2.0)),
    "value": (lambda x: x * torch.tensor(2.0), lambda x: x * torch.tensor(3.0)),
    "mark": (partial(as_wide, written=False), partial(as_wide, written=True)),
    "strides": (
        partial(laid_out, layout=torch.contiguous_format),
        partial(laid_out, layout=torch.channels_last),
    ),
    "dtype": (partial(filled, kind=torch.bool), partial(filled, kind=torch.int32)),
    "offset": (partial(cut_out, place=0), partial(cut_out, place=1)),
}


@pytest.mark.parametrize("name", WAYS)
def test_what_is_given_otherwise_is_known_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = same_by_rules(ByMode(*WAYS[name]), torch.zeros(1, 1, 8, 8), monkeypatch)
    same = told(trace(ByMode(*WAYS[name][:1] * 2), torch.zeros(1, 1, 8, 8)))
    assert known != same


def test_zeros_of_two_calls_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class PadsTwice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.pad = nn.Conv2d(1, 8, 3, padding=1), nn.ConstantPad3d((0, 0, 0, 0, 0, 4), 0.0)
            self.u, self.v, self.one, self.two = (nn.Conv2d(i, o, 1) for i, o in ((8, 12), (8, 12), (12, 2), (12, 2)))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.a(x)
            return self.one(self.u(x) + self.pad(x)), self.two(self.v(x) + self.pad(x))

    known = same_by_rules(PadsTwice(), torch.zeros(1, 1, 8, 8), monkeypatch)
    assert [len(units) for _, units in known["groups"]] == [8, 4, 2, 4, 2]


def test_what_is_written_into_is_told_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class HeadOfPadded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head, self.aux = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 3), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            x = nn.functional.pad(self.a(x), (1, 1, 1, 1), mode="circular")
            return (self.head(x), self.aux(x)) if self.training else (self.head(x),)

    known = same_by_rules(HeadOfPadded(), torch.zeros(1, 1, 8, 8), monkeypatch)
    assert known["parameters"]["aux.weight"][1] == known["parameters"]["a.weight"][0]


def test_what_is_given_the_same_again_is_the_same_record() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(2), nn.Dropout(0.5))
    graph = trace(net, torch.zeros(1, 1, 8, 8))
    once, again = (graph.runs[name].records for name in ("eval", "train"))
    assert len(again) > len(once) > 3
    assert all(a is b for a, b in zip(once, again, strict=False))
