"""Single ops between two convolutions: which channels of the first live and die together, computed by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.graph.build import trace


class Between(nn.Module):
    """A 1 x 1 convolution to `width` channels, an op, a 1 x 1 convolution to one channel."""

    def __init__(self, op: Callable[[Tensor], Tensor], width: int, after: int) -> None:
        super().__init__()
        self.first, self.last, self.op = nn.Conv2d(1, width, 1), nn.Conv2d(after, 1, 1), op

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(self.first(x)))


def classes(op: Callable[[Tensor], Tensor], width: int, after: int) -> tuple[list[int], list[int], list[bool]]:
    """Return the classes of the channels made and read, numbered by first appearance, and which are frozen."""
    graph = trace(Between(op, width, after), torch.zeros(2, 1, 4, 4))
    made = graph.parameters["first.weight"].dims[0].tolist()
    members = graph.parameters.get("last.weight")
    read = members.dims[1].tolist() if members is not None and 1 in members.dims else []
    order = {unit: number for number, unit in enumerate(dict.fromkeys(made))}
    return [order[unit] for unit in made], [order.get(unit, -1) for unit in read], [bool(graph.frozen[u]) for u in made]


CASES: dict[str, tuple[Callable[[Tensor], Tensor], int, int, list[int], list[int]]] = {
    "pointwise": (torch.relu, 4, 4, [0, 1, 2, 3], [0, 1, 2, 3]),
    "flip": (lambda x: x.flip(1), 4, 4, [0, 1, 2, 3], [3, 2, 1, 0]),
    "concat": (lambda x: torch.cat([x, -x], 1), 2, 4, [0, 1], [0, 1, 0, 1]),
    "repeat": (lambda x: x.repeat(1, 2, 1, 1), 2, 4, [0, 1], [0, 1, 0, 1]),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), 2, 4, [0, 1], [0, 0, 1, 1]),
    "add of the reverse": (lambda x: x + x.flip(1), 4, 4, [0, 1, 1, 0], [0, 1, 1, 0]),
    "glu": (lambda x: F.glu(x, 1), 4, 2, [0, 1, 0, 1], [0, 1]),
    "shuffle op": (lambda x: F.channel_shuffle(x, 2), 4, 4, [0, 1, 0, 1], [0, 0, 1, 1]),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), 8, 2, [0, 0, 0, 0, 1, 1, 1, 1], [0, 1]),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), 2, 8, [0, 1], [0, 0, 0, 0, 1, 1, 1, 1]),
    "max pool": (lambda x: F.max_pool2d(x, 2), 2, 2, [0, 1], [0, 1]),
    "upsample": (lambda x: F.interpolate(x, scale_factor=2), 2, 2, [0, 1], [0, 1]),
    "unfold": (lambda x: F.unfold(x, 2).view(2, -1, 3, 3), 2, 8, [0, 1], [0, 0, 0, 0, 1, 1, 1, 1]),
    "fold": (lambda x: F.fold(F.unfold(x, 3, padding=1), (4, 4), 3, padding=1), 2, 2, [0, 1], [0, 1]),
    "fourier": (lambda x: torch.fft.fft2(x).real, 2, 2, [0, 1], [0, 1]),
    "complex": (lambda x: torch.view_as_complex(torch.stack([x, x], -1)).abs(), 2, 2, [0, 1], [0, 1]),
    "log sigmoid": (F.logsigmoid, 2, 2, [0, 1], [0, 1]),
    "hardswish": (F.hardswish, 2, 2, [0, 1], [0, 1]),
    "stack": (lambda x: torch.stack([x, x], 2).amax(2), 2, 2, [0, 1], [0, 1]),
    "softmax": (lambda x: x.softmax(1), 3, 3, [0, 1, 2], [0, 1, 2]),
    "pad": (lambda x: F.pad(x, (0, 0, 0, 0, 0, 2)), 2, 4, [0, 1], [0, 1, -1, -1]),
    "matrix product": (lambda x: torch.eye(4) @ x, 2, 2, [0, 1], [0, 1]),
}


@pytest.mark.parametrize(("shift", "stay"), [(1, [3]), (-1, [0]), (3, [1, 2, 3])])
def test_of_rotated_channels_those_stay_that_change_their_end(shift: int, stay: list[int]) -> None:
    made, read, frozen = classes(lambda x: x.roll(shift, 1), 4, 4)
    assert read == np.roll(made, shift).tolist()
    assert np.flatnonzero(frozen).tolist() == stay


@pytest.mark.parametrize("name", CASES)
def test_classes(name: str) -> None:
    op, width, after, made, read = CASES[name]
    assert classes(op, width, after) == (made, read, [False] * width)


@pytest.mark.parametrize(
    ("op", "word"),
    [
        (lambda x: x[:, [1, 0]], "picked by number in index"),
        (lambda x: x.cumsum(1), "scanned over channels by cumsum"),
        (lambda x: x * x.argmax(1, keepdim=True), "reduced over channels by argmax"),
        (lambda x: x * x.max(1, keepdim=True)[1], "numbered by max"),
        (lambda x: torch.cdist(x, x), "no rule for _cdist_forward"),
        (lambda x: x * torch.arange(1, 3)[:, None, None], "meets a fixed dimension in mul"),
        (lambda x: x * torch.tensor([1.0, 2.0])[:, None, None], "meets a fixed dimension in mul"),
        (lambda x: x / x.shape[1], "fixed size in div"),
        (lambda x: x.view(2, 2, 16).view(2, -1, 4, 4), "fixed size in view"),
    ],
)
def test_what_freezes_and_why(op: Callable[[Tensor], Tensor], word: str) -> None:
    graph = trace(Between(op, 2, 2), torch.zeros(2, 1, 4, 4))
    units = graph.parameters["first.weight"].dims[0]
    assert {str(graph.reasons[unit]).partition(" at ")[0] for unit in units} == {word}


def test_a_channel_that_a_shuffle_ties_to_one_without_a_label_stays() -> None:
    def shuffled(x: Tensor) -> Tensor:
        x = torch.cat([x[:, 1:], x[:, :1]], 1)
        return x.view(2, 2, x.shape[1] // 2, 4, 4).transpose(1, 2).flatten(1, 2)

    made, _, stays = classes(shuffled, 4, 4)
    assert (made, stays) == ([0, 1, 2, 1], [True, False, True, False])


def test_groups_of_a_norm_and_of_a_convolution_keep_equally_many() -> None:
    net = nn.Sequential(nn.Conv2d(1, 6, 1), nn.GroupNorm(2, 6), nn.Conv2d(6, 4, 1, groups=2), nn.Conv2d(4, 1, 1))
    graph = trace(net, torch.zeros(1, 1, 4, 4))
    assert sorted(rows.shape for rows in graph.balance) == [(2, 2), (2, 3)]
    assert [each.mixing.groups for each in graph.runs["eval"].records if each.mixing] == [2]


def test_a_depthwise_convolution_follows_its_inputs() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 6, 1, groups=3), nn.Conv2d(6, 1, 1))
    graph = trace(net, torch.zeros(1, 1, 4, 4))
    made = graph.parameters["0.weight"].dims[0].tolist()
    assert graph.parameters["1.weight"].dims[0].tolist() == [unit for unit in made for _ in range(2)]
    assert [layer.kind for layer in graph.layers] == ["conv", "depthwise", "conv"]


def test_a_deviation_needs_two_channels() -> None:
    graph = trace(Between(lambda x: x / x.std(1, keepdim=True), 4, 4), torch.zeros(2, 1, 4, 4))
    assert graph.least[int(graph.group_of[graph.parameters["first.weight"].dims[0][0]])] == 2


class Attending(nn.Module):
    """Attention of one map to another, through weights in one piece or in three."""

    def __init__(self, **settings: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 8, 1), nn.Conv1d(1, settings.get("kdim", 8), 1)
        self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True, **settings), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, other = self.a(x).mT, self.b(x).mT
        return self.last(self.attention(query, other, other, need_weights=False)[0])


@pytest.mark.parametrize(("settings", "stays"), [({}, {"a", "b"}), ({"kdim": 6, "vdim": 6}, {"a"})])
def test_an_attention_module_keeps_the_width_its_own_code_cuts_by(settings: dict[str, int], stays: set[str]) -> None:
    graph = trace(Attending(**settings), torch.zeros(1, 1, 5))
    why = {layer.module: {graph.reasons[unit] for unit in layer.units} for layer in graph.layers}
    for name in ("a", "b"):
        assert why[name] == {"width of the nn.MultiheadAttention at attention" if name in stays else None}
