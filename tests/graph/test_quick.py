"""What quick() says of an op's result is what PyTorch's own kernel says: shape, type and strides, or nothing."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ranp.graph._quick import POINTWISE, SHAPES, quick

Call = tuple[str, tuple[Any, ...]]  # of an op: its name and arguments
Draw = Callable[[st.SearchStrategy[Any]], Any]
SPATIAL = {1: "linear", 2: "bilinear", 3: "trilinear"}
SCALED = [*((kind, n) for n, linear in SPATIAL.items() for kind in ("nearest", linear)), ("bicubic", 2)]
BINARY = {"add", "sub", "mul", "div", "rsub", "_prelu_kernel", "clamp_min"}


@dataclass(frozen=True)
class Made:
    """A tensor to make on a device: its shape, type and layout."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    layout: str = "usual"

    def on(self, device: str) -> Tensor:
        """Make it; there are no values but ones."""
        shape = list(self.shape)
        if self.layout == "reversed" and shape:
            made = torch.ones(shape[::-1], dtype=self.dtype, device=device)
            return made.permute(*range(len(shape))[::-1])
        if self.layout == "channels last" and len(shape) > 2:
            made = torch.ones([shape[0], *shape[2:], shape[1]], dtype=self.dtype, device=device)
            return made.movedim(-1, 1)
        if self.layout == "every second" and shape:
            return torch.ones([*shape[:-1], 2 * shape[-1]], dtype=self.dtype, device=device)[..., ::2]
        if self.layout == "cropped":
            return torch.ones([n + 1 for n in shape], dtype=self.dtype, device=device)[(slice(1, None),) * len(shape)]
        if self.layout == "part" and len(shape) > 1:
            return torch.ones([shape[0], shape[1] + 1, *shape[2:]], dtype=self.dtype, device=device)[:, 1:]
        if self.layout == "expanded" and shape:
            return torch.ones([*shape[:-1], 1], dtype=self.dtype, device=device).expand(shape)
        return torch.ones(shape, dtype=self.dtype, device=device)


def made(values: Any, device: str) -> Any:
    """Return arguments with their tensors on a device."""
    if isinstance(values, Made):
        return values.on(device)
    if isinstance(values, list | tuple):
        return type(values)(made(each, device) for each in values)
    return values


def told(result: Any) -> list[tuple[Any, ...]]:
    """Return all that a result without data tells."""
    results = result if isinstance(result, tuple) else (result,)
    assert all(each.is_meta for each in results)
    return [(tuple(each.shape), each.dtype, each.stride()) for each in results]


def check(name: str, args: tuple[Any, ...]) -> bool:
    """Check an op's quick result, and return whether there is one.

    An op that raises, on meta tensors or with data, has none.
    """
    result = quick(name, made(args, "meta"))
    if result is None:
        return False
    op = getattr(torch.ops.aten, name)
    op(*made(args, "cpu"))  # nothing that can't be computed has a quick result
    assert told(result) == told(op(*made(args, "meta")))
    return True


DTYPES = st.sampled_from([torch.float32] * 20 + [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool])
LAYOUTS = st.sampled_from(["usual"] * 25 + ["reversed", "channels last", "every second", "cropped", "part", "expanded"])


def sizes(count: int, least: int = 1, most: int = 4) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least, most), min_size=count, max_size=count)


@st.composite
def tensors(draw: Draw, shape: Any, dtype: torch.dtype = torch.float32) -> Made:
    """A tensor of about the shape: rarely of another one, type or layout."""
    shape = list(shape)
    if shape and draw(st.integers(0, 19)) == 0:
        shape[draw(st.integers(0, len(shape) - 1))] += draw(st.sampled_from([-1, 1]))
    if draw(st.integers(0, 19)) == 0:
        dtype = draw(DTYPES)
    return Made(tuple(shape), dtype, draw(LAYOUTS))


def maybe(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), value)


@st.composite
def pointwise(draw: Draw) -> Call:
    name = draw(st.sampled_from(sorted(POINTWISE)))
    dtype, shape = draw(DTYPES), draw(st.lists(st.integers(1, 3), max_size=5))
    first = draw(tensors(shape, dtype))
    number = st.sampled_from([1, 0, 2, 0.5, True, 1j])
    if name in BINARY:
        smaller = [draw(st.sampled_from([n, n, 1])) for n in shape[draw(st.integers(0, len(shape))) :]]
        other = (
            draw(tensors(smaller, dtype))
            if name == "_prelu_kernel"
            else draw(st.one_of(number, tensors(smaller, dtype)))
        )
        if isinstance(other, Made) or name == "_prelu_kernel":
            pair = draw(st.permutations([first, other]))
            return name, tuple(pair)
        return name, (first, other)
    count = {"leaky_relu": 1, "elu": 1, "hardtanh": 2, "softplus": 2}.get(name, 0)
    return name, (first, *draw(st.lists(st.sampled_from([1, 2, 0.5]), max_size=count)))


@st.composite
def convolutions(draw: Draw) -> Call:
    dims, groups, transposed = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.booleans())
    dtype = draw(DTYPES)
    inputs, outputs = (groups * draw(st.integers(1, 2)) for _ in range(2))
    channels = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    weight = draw(tensors((*channels, *draw(sizes(dims, 1, 3))), dtype))
    count = draw(st.sampled_from([dims] * 9 + [1]))
    places = [draw(sizes(count, least, 3)) for least in (draw(st.sampled_from([1] * 9 + [0])), 0, 1)]
    image = draw(tensors((draw(st.integers(1, 2)), inputs, *draw(sizes(dims, 1, 7))), dtype))
    bias = draw(maybe(tensors((outputs,), dtype)))
    return "convolution", (image, weight, bias, *places, transposed, draw(sizes(dims, 0, 2)), groups)


@st.composite
def pools(draw: Draw) -> Call:
    dims, dtype = draw(st.integers(2, 3)), draw(DTYPES)
    image = draw(
        tensors((*draw(sizes(2, 1, 2)), *draw(sizes(draw(st.sampled_from([dims] * 9 + [dims - 1])), 1, 7))), dtype)
    )
    kernel = draw(sizes(dims, 1, 3))
    stride, padding = draw(st.sampled_from([[], draw(sizes(dims, 0, 3))])), draw(sizes(dims, 0, 1))
    rest: list[Any] = [stride, padding]
    if draw(st.booleans()):
        rest += [draw(sizes(dims, 1, 2)), draw(st.booleans())]
        name = f"max_pool{dims}d_with_indices"
    else:
        rest += [draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([None, None, 2, 0]))]
        name = f"avg_pool{dims}d"
    return name, (image, kernel, *rest[: draw(st.integers(0, len(rest)))])


@st.composite
def resamplings(draw: Draw) -> Call:
    dims, dtype = draw(st.integers(1, 3)), draw(DTYPES)
    image = draw(tensors((*draw(sizes(2, 1, 2)), *draw(sizes(dims, 1, 4))), dtype))
    names = [f"upsample_nearest{dims}d", f"upsample_{SPATIAL[dims]}{dims}d"]
    names += [f"_adaptive_avg_pool{dims}d", f"adaptive_max_pool{dims}d"] * (dims > 1) + ["upsample_bicubic2d"] * (
        dims == 2
    )
    name = draw(st.sampled_from(names))
    corners = [draw(st.booleans())] if "linear" in name or "cubic" in name else []
    scales = [None] * (0 if "adaptive" in name else dims)
    target = draw(sizes(draw(st.sampled_from([dims] * 9 + [1])), draw(st.sampled_from([1] * 9 + [0])), 5))
    return name, (image, target, *corners, *scales)


@st.composite
def paddings(draw: Draw) -> Call:
    dims, dtype, kind = draw(st.integers(1, 3)), draw(DTYPES), draw(st.sampled_from(["reflection", "replication"]))
    image = draw(tensors((*draw(sizes(2, 1, 2)), *draw(sizes(dims, 1, 4))), dtype))
    return f"{kind}_pad{dims}d", (image, draw(sizes(2 * dims, draw(st.sampled_from([0] * 9 + [-1])), 3)))


@st.composite
def norms(draw: Draw) -> Call:
    dtype, shape = draw(DTYPES), draw(st.lists(st.integers(1, 4), max_size=5))
    image, kind = draw(tensors(shape, dtype)), draw(st.sampled_from(["batch", "group", "layer"]))
    if kind == "batch":
        parameters = [draw(maybe(tensors(shape[1:2], dtype))) for _ in range(4)]
        return "native_batch_norm", (image, *parameters, draw(st.booleans()), 0.1, 1e-5)
    normed = shape[1:2] if kind == "group" else shape[draw(st.integers(0, len(shape))) :]
    weight, bias = (draw(maybe(tensors(normed, dtype))) for _ in range(2))
    if kind == "layer":
        return "native_layer_norm", (image, normed, weight, bias, 1e-5)
    size = torch.Size(shape[2:]).numel() + draw(st.sampled_from([0] * 9 + [1]))
    return "native_group_norm", (image, weight, bias, *[*shape, 1, 1][:2], size, draw(st.integers(0, 2)), 1e-5)


@st.composite
def products(draw: Draw) -> Call:
    name, dtype = draw(st.sampled_from(["mm", "addmm", "bmm"])), draw(DTYPES)
    rows, inner, columns, batch = draw(sizes(4))
    batches = [batch] * (name == "bmm")
    pair = [draw(tensors((*batches, rows, inner), dtype)), draw(tensors((*batches, inner, columns), dtype))]
    added = [
        draw(tensors(draw(st.sampled_from([(rows, columns), (columns,), (1, columns), (rows, 1), (1,), ()])), dtype))
    ]
    return name, (*added * (name == "addmm"), *pair)


@st.composite
def reductions(draw: Draw) -> Call:
    dtype, shape = draw(DTYPES), draw(st.lists(st.integers(1, 4), max_size=5))
    image, name = draw(tensors(shape, dtype)), draw(st.sampled_from(["mean", "sum", "softmax"]))
    dim = st.integers(-len(shape) - 1, len(shape))
    dims = draw(st.lists(dim, max_size=2))
    if name == "softmax":
        name = draw(st.sampled_from(["_softmax", "_log_softmax", "_safe_softmax"]))
        last = [None] if name == "_safe_softmax" else [draw(st.sampled_from([False] * 9 + [True]))]
        return name, (image, draw(dim), *last)
    return name, (image, draw(st.sampled_from([dims, dims, None])), *[draw(st.booleans())] * draw(st.booleans()))


@st.composite
def joins(draw: Draw) -> Call:
    dtype, shape = draw(DTYPES), draw(st.lists(st.integers(1, 4), max_size=5))
    if draw(st.integers(0, 3)) == 0:
        count = draw(st.integers(max(len(shape) - 1, 0), len(shape) + 2))
        return "repeat", (draw(tensors(shape, dtype)), draw(sizes(count, 0, 3)))
    dim, parts = draw(st.integers(-len(shape) - 1, len(shape))), []
    for _ in range(draw(st.integers(1, 3))):
        part = list(shape)
        if -len(shape) <= dim < len(shape):
            part[dim] = draw(st.integers(1, 3))
        parts.append(draw(tensors(part, dtype)))
    return "cat", (parts, dim)


FAMILIES = [pointwise, convolutions, pools, resamplings, paddings, norms, products, reductions, joins]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda each: each.__name__)
def test_the_kernel_agrees(family: Any) -> None:
    taken = []

    @settings(max_examples=300)
    @given(family())
    def run(call: Call) -> None:
        taken.append(check(*call))

    run()
    assert 30 < sum(taken) < len(taken)


def of(dims: int, channels: int = 4) -> Made:
    return Made((2, channels, *[6] * dims))


PLAIN: list[Call] = [
    *[(name, (of(2),)) for name in sorted(POINTWISE - BINARY)],
    *[(name, (of(2), Made((4, 1, 6)))) for name in sorted(BINARY - {"clamp_min"})],
    ("clamp_min", (of(2), 0)),
    ("add", (Made((), torch.int64), 1)),
    ("native_batch_norm", (of(3), *[Made((4,))] * 4, True, 0.1, 1e-5)),
    ("native_group_norm", (of(2), Made((4,)), None, 2, 4, 36, 2, 1e-5)),
    ("native_layer_norm", (of(2), [6, 6], None, Made((6, 6)), 1e-5)),
    ("mm", (Made((2, 3)), Made((3, 4), layout="reversed"))),
    ("addmm", (Made((4,)), Made((2, 3)), Made((3, 4), layout="reversed"))),
    ("bmm", (Made((5, 2, 3)), Made((5, 3, 4)))),
    ("cat", ([Made((2, 3, 6, 6), layout="cropped"), of(2)], 1)),
    ("repeat", (of(1), [2, 1, 3, 1])),
    *[(name, (of(2), [2, 3], True)) for name in ("mean", "sum")],
    *[
        (name, (of(2), 1, last))
        for name, last in [("_softmax", False), ("_log_softmax", False), ("_safe_softmax", None)]
    ],
    *[("convolution", (of(n), of(n), Made((2,)), [2] * n, [1] * n, [1] * n, False, [0] * n, 1)) for n in SPATIAL],
    *[
        ("convolution", (of(n), Made((4, 3, *[3] * n)), Made((6,)), [2] * n, [1] * n, [1] * n, True, [1] * n, 2))
        for n in SPATIAL
    ],
    *[(f"max_pool{n}d_with_indices", (of(n), [3] * n, [2] * n, [1] * n, [1] * n, True)) for n in (2, 3)],
    *[(f"avg_pool{n}d", (of(n), [2] * n)) for n in SPATIAL],
    *[(f"{kind}{n}d", (of(n), [3] * n)) for kind in ("_adaptive_avg_pool", "adaptive_max_pool") for n in (2, 3)],
    *[(f"{kind}_pad{n}d", (of(n), [1, 0] * n)) for kind in ("reflection", "replication") for n in SPATIAL],
    *[(f"upsample_{kind}{n}d", (of(n), [9] * n, *[True] * (kind != "nearest"), *[None] * n)) for kind, n in SCALED],
]


@pytest.mark.parametrize(("name", "args"), PLAIN, ids=[name for name, _ in PLAIN])
def test_plain_cases_are_quick(name: str, args: tuple[Any, ...]) -> None:
    assert check(name, args)


WRONG: list[Call] = [
    ("cat", ([],)),
    ("cat", ([Made((2, 3)), Made((2,))], 1)),
    ("mm", (Made((3,)), Made((3, 2)))),
    ("bmm", (Made((2, 3)), Made((3, 2)))),
    ("convolution", (of(2), Made((4,)), None, [1], [0], [1], False, [0], 1)),
    ("convolution", (Made((2, 4)), Made((2, 4)), None, [], [], [], False, [], 1)),
    ("convolution", (of(2), of(2), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 0)),
    ("native_batch_norm", (Made((4,)), None, None, Made((4,)), Made((4,)), False, 0.1, 1e-5)),
    ("native_layer_norm", (of(2), [], None, None, 1e-5)),
    ("max_pool2d_with_indices", (of(3), [2, 2, 2])),
    ("upsample_nearest2d", (of(3), [9, 9, 9])),
    ("_softmax", (Made(()), 1, False)),
    ("mean", (of(2), [1, -3])),
    ("clamp_min", (of(2), 1j)),
]


@pytest.mark.parametrize(("name", "args"), WRONG, ids=[name for name, _ in WRONG])
def test_what_is_wrong_is_left_to_pytorch(name: str, args: tuple[Any, ...]) -> None:
    assert quick(name, made(args, "meta")) is None
    with pytest.raises((RuntimeError, ValueError, IndexError, AssertionError, TypeError)):
        getattr(torch.ops.aten, name)(*made(args, "cpu"))


def test_every_op_has_a_plain_case() -> None:
    names = {re.sub(r"\dd(_with_indices)?$", "", name) for name, _ in PLAIN}
    assert names == POINTWISE | set(SHAPES)


UNET = """
import sys
import torch
from torch import nn
from ranp.graph.build import trace

COMPILER = {"sympy", "torch._dynamo"}


class UNet(nn.Module):
    def __init__(self, dims, norm, down, mode, padding="zeros"):
        super().__init__()
        conv, up, pool = (getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "ConvTranspose", down))
        self.first = nn.Sequential(conv(1, 4, 3, padding=1, padding_mode=padding), norm(4), nn.LeakyReLU(0.1))
        self.inner = nn.Sequential(pool(2), conv(4, 8, 3, padding=1), norm(8), nn.PReLU())
        self.gate = nn.Sequential(getattr(nn, f"AdaptiveAvgPool{dims}d")(1), conv(8, 8, 1), nn.Sigmoid())
        scaled = nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), conv(8, 4, 1)) if mode else None
        self.up, self.head = scaled or up(8, 4, 2, stride=2), conv(8, 3, 1)

    def forward(self, x):
        skip = self.first(x)
        inner = self.inner(skip)
        up = self.up(inner * self.gate(inner)) / 2
        logits = self.head(torch.cat([skip, up], dim=1))
        return logits.softmax(1), logits.flatten(2).mean(2)


def instance(dims):
    return lambda channels: getattr(nn, f"InstanceNorm{dims}d")(channels, affine=True)


def batch(dims, **tracked):
    return lambda channels: getattr(nn, f"BatchNorm{dims}d")(channels, **tracked)


def traced(dims, *choices):
    graph = trace(UNet(dims, *choices), torch.zeros(2, 1, *[8] * dims))
    assert [len(group.units) for group in graph.groups] == [4, 8, 4, 3], graph.groups
    return COMPILER & set(sys.modules)


for choices in [
    (3, instance(3), "MaxPool", None),
    (3, batch(3, track_running_stats=False), "AvgPool", "trilinear"),
    (2, lambda channels: nn.GroupNorm(2, channels), "MaxPool", "bilinear", "reflect"),
    (2, instance(2), "AvgPool", "nearest", "replicate"),
    (1, batch(1, track_running_stats=False), "MaxPool", "linear"),
]:
    assert not traced(*choices), choices
assert traced(3, batch(3), "MaxPool", None) <= {"sympy"}  # its counter goes up in place, which PyTorch checks in Python
"""


def test_a_unet_is_traced_without_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", UNET], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
