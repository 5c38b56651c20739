"""What grows while a network runs: a fork of it grows apart, and a tensor that is gone leaves nothing behind."""

import gc
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ranp.graph._labels import Labels
from ranp.graph._recording import Recorder
from ranp.graph._run import run
from ranp.graph.flow import activation, constant
from ranp.graph.trace import Trace, like_input


class HeadInTraining(nn.Module):
    """In training mode a norm reads a layer that nothing normed before, and two layers are tied that were not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head, self.aux = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.a(x)
        y = self.b(x)
        if not self.training:
            return (self.head(y),)
        return self.head(y), self.aux(self.norm(y) + x).prod(1) * self.a.weight.mean()


def grow(trace: Trace, model: nn.Module, *, training: bool) -> None:
    run(trace, model, torch.zeros(1, 1, 8, 8, device="meta"), Recorder(trace), training=training)


def state(trace: Trace) -> dict[str, Any]:
    """Return all that a trace holds, as it is now."""

    def now(value: Any) -> Any:
        if isinstance(value, Labels):
            return value.count, value.roots().tolist()
        if isinstance(value, dict):
            return {key: now(held) for key, held in value.items()}
        return list(map(id, value)) if isinstance(value, list) else set(value) if isinstance(value, set) else id(value)

    held = {name: now(value) for name, value in vars(trace).items() if name != "_flows"}
    return {**held, "layers": [repr(replace(layer)) for layer in trace.layers.values()]}


def test_a_fork_grows_apart() -> None:
    model = HeadInTraining().to("meta")
    first = Trace(outputs=(0,))
    grow(first, model, training=False)
    kept = torch.empty(2)
    first.set(kept, like_input((2,)))
    before, other = state(first), first.fork()
    assert other.carried(kept) is None  # it would not hear when that is gone
    assert (other.outputs, other.current.records, state(first)) == ((0,), [], before)
    grow(other, model, training=True)
    assert state(first) == before
    assert len(other.runs["train"].records) > len(other.runs["eval"].records)
    assert [layer.norm for layer in (first.layers["b.weight"], other.layers["b.weight"])] == [
        None,
        ("norm.weight", "norm.bias"),
    ]
    assert ("aux.weight" in first.born, "aux.weight" in other.born) == (False, True)


def test_a_tensor_that_is_gone_leaves_nothing_to_one_in_its_place() -> None:
    trace, shape = Trace(), (2, 3)
    for _ in range(100):
        tensor = torch.empty(shape, device="meta")
        assert trace.carried(tensor) is None
        trace.set(tensor, like_input(shape))
        newer = like_input(shape)
        trace.set(tensor, newer)  # what it carried before is gone, and must not take this with it
        assert trace.carried(tensor) is newer
        del tensor


def test_a_tensor_is_a_parameter_or_carries_something_or_is_unknown() -> None:
    trace = Trace()
    tensors = parameter, written, made, _ = [torch.empty(1, 8) for _ in range(4)]
    trace.names = {id(parameter): "a", id(written): "b"}
    trace.set(written, like_input((1, 8)))
    trace.set(made, like_input((1, 8)))
    assert list(map(trace.is_parameter, tensors)) == [True, False, False, False]
    assert list(map(trace.is_unknown, tensors)) == [False, False, False, True]
    born = trace.flow(parameter)
    assert (len(born.over(0)), len(born.over(1)), born.immovable(0)) == (0, 1, True)  # a single index can never go


def test_a_view_tells_its_base_while_that_lives() -> None:
    trace = Trace()
    whole, part, other = torch.empty(4, 3), torch.empty(2, 3), torch.empty(1, 3)
    assert trace.base(part) is part
    trace.set(whole, like_input((4, 3)))
    trace.set(part, like_input((2, 3)), whole)
    trace.set(other, like_input((1, 3)))
    assert [trace.base(tensor) is base for tensor, base in ((whole, whole), (part, whole), (other, other))] == [
        True
    ] * 3
    del whole
    assert trace.base(part) is part


def test_what_is_written_into_a_view_is_in_its_base() -> None:
    trace = Trace()
    mine, other, few = (trace.fresh(size).reshape(1, size, 1) for size in (8, 8, 4))
    whole, columns, rows = torch.empty(1, 8, 4), torch.empty(1, 8, 2), torch.empty(1, 4, 4)
    trace.set(whole, activation((1, 8, 4), [mine]))
    trace.set(columns, activation((1, 8, 2), [mine]), whole)
    trace.set(rows, constant((1, 4, 4)), whole)
    trace.write_through(whole, activation((1, 8, 4), [other]), "the whole itself")
    trace.write_through(columns, constant((1, 8, 2)), "zeros")
    assert (trace.frozen, trace.flow(whole).fixed) == ([], (True, False, True))
    assert not trace.labels.alike(mine[0, 3, 0], other[0, 3, 0])
    trace.write_through(columns, activation((1, 8, 2), [other]), "all channels")
    assert (trace.frozen, trace.labels.find(mine).tolist()) == ([], trace.labels.find(other).tolist())
    trace.write_through(rows, activation((1, 4, 4), [few]), "some channels")
    assert [(labels.tolist(), why) for labels, why in trace.frozen] == [(few.ravel().tolist(), "some channels")]
    assert [field.tolist() for field in trace.flow(whole).fields] == [trace.labels.find(mine).tolist()]

    empty, part = torch.empty(1, 8, 4), torch.empty(1, 8, 2)
    trace.set(empty, constant((1, 8, 4)))
    trace.set(part, constant((1, 8, 2)), empty)
    trace.write_through(part, constant((1, 8, 2)), "zeros")
    assert trace.flow(empty).fixed == (False, False, False)


def test_flows_of_the_same_fields_are_one() -> None:
    trace = Trace()
    fields = trace.fresh(8).reshape(1, 8, 1), trace.fresh(8).reshape(1, 8, 1)
    flow = replace(like_input((2, 8, 4)), fields=fields[:1])
    others = [
        replace(flow, shape=(2, 8, 5)),
        replace(flow, fields=fields[1:]),
        replace(flow, fields=fields),
        replace(flow, fixed=(False, True, True)),
        replace(flow, roots=frozenset()),
        replace(flow, roots=frozenset(["a"])),
        replace(flow, layer="a"),
        replace(flow, picks=fields[:1]),
        replace(flow, picks=fields[1:]),
    ]
    assert trace.once(flow) is trace.once(replace(flow)) is flow
    assert [trace.once(other) for other in others] == others
    assert [trace.once(replace(other)) for other in others] == others


def test_parameters_keep_their_places_taken() -> None:
    trace = Trace()
    grow(trace, HeadInTraining().to("meta"), training=False)
    gc.collect()
    others = [torch.empty(1) for _ in range(1000)]
    assert all(map(trace.is_unknown, others))
