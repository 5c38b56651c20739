"""The pooling operators: definitions window by window, derivatives, native code against PyTorch, and what is kept."""

import ctypes
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pooling_by_hand import geometries, pooled
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ranp.kernels import _native_pooling as native_pooling
from ranp.kernels import compiling, native, pooling_reference
from ranp.kernels.pooling import DPP_POOL, FILTER_POOL, LP_POOL, P_POOL, Pooling
from ranp.kernels.windows import Windows

PAIRS = Windows((2, 2), (2, 2), (0, 0), (1, 1))
UNEVEN = Windows((3, 2), (2, 1), (1, 1), (1, 2), True)


@pytest.fixture(params=["require", "off"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With native code and without."""
    monkeypatch.setenv("RANP_NATIVE", request.param)
    return str(request.param)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def given_to(kind: str, windows: Windows, counts: list[int], seed: int) -> tuple[Pooling, tuple[Any, ...]]:
    """Return a pooling and its tensors for three channels, in float64."""
    dims = windows.dims
    vector = random(1, 3, *[1] * dims, seed=seed + 1)
    other, everywhere = random(1, 3, *[1] * dims, seed=seed + 2), random(2, 3, *counts, seed=seed + 3)
    return {
        "p": (P_POOL, (6 * vector, None)),
        "p of maps": (P_POOL, (6 * everywhere, None)),
        "lp sum": (LP_POOL, (0.5 + 4 * vector, False)),
        "lp mean": (LP_POOL, (0.5 + 4 * vector, True)),
        "dpp": (DPP_POOL, (None, 0.2 + 3 * vector, other, False)),
        "dpp asymmetric": (DPP_POOL, (None, 0.2 + 3 * vector, other, True)),
        "dpp full": (DPP_POOL, (everywhere, 0.2 + 3 * vector, other, True)),
        "filter": (FILTER_POOL, (random(3, 1, *windows.kernel, seed=seed) - 0.4,)),
        "one filter": (FILTER_POOL, (random(1, 1, *windows.kernel, seed=seed) - 0.4,)),
        "larger filter": (FILTER_POOL, (random(3, 1, *(size + 1 for size in windows.kernel), seed=seed) - 0.4,)),
    }[kind]


KINDS = ["p", "p of maps", "lp sum", "lp mean", "dpp", "dpp asymmetric", "dpp full", "filter", "one filter"]
KINDS += ["larger filter"]


def at(values: Tensor, place: tuple[int, ...]) -> Tensor:
    """Return a tensor's entries (B, C, 1) for one window."""
    index = [0 if size == 1 else where for size, where in zip(values.shape[2:], place, strict=True)]
    return values[(slice(None), slice(None), *index)][..., None]


def defined(kind: str, given: tuple[Any, ...]) -> Callable[[Tensor, tuple[int, ...]], Tensor]:
    """Return a pooling's definition for the elements (B, C, n) of a window."""

    def p(x: Tensor, place: tuple[int, ...]) -> Tensor:
        alpha = at(given[0], place)
        return (x ** (alpha + 1)).sum(-1) / (x**alpha).sum(-1)

    def lp(x: Tensor, place: tuple[int, ...]) -> Tensor:
        power = at(given[0], place)
        total = (x**power).mean(-1, keepdim=True) if given[1] else (x**power).sum(-1, keepdim=True)
        return (total ** (1 / power))[..., 0]

    def dpp(x: Tensor, place: tuple[int, ...]) -> Tensor:
        reference, strength, offset, asymmetric = given
        apart = x - (x.mean(-1, keepdim=True) if reference is None else at(reference, place))
        square = (apart.clamp(min=0) if asymmetric else apart) ** 2 + 1e-3
        weight = at(offset, place) + (square / square.mean(-1, keepdim=True)) ** (at(strength, place) / 2)
        return (weight * x).sum(-1) / weight.sum(-1)

    return dpp if kind.startswith("dpp") else lp if kind.startswith("lp") else p


def filtered(x: Tensor, filters: Tensor, windows: Windows, counts: list[int]) -> Tensor:
    """Return each window's elements times the filters, element by element; a larger filter begins one before."""
    lead, total = filters.shape[2] - windows.kernel[0], 0 * x.flatten(2).sum(2)
    parts = []
    for place in itertools.product(*map(range, counts)):
        y = total
        for offset in itertools.product(*map(range, filters.shape[2:])):
            sides = zip(place, windows.stride, windows.padding, offset, windows.dilation, strict=True)
            at = [where * stride - pad + (tap - lead) * step for where, stride, pad, tap, step in sides]
            if all(0 <= index < size for index, size in zip(at, x.shape[2:], strict=True)):
                y = y + x[(slice(None), slice(None), *at)] * filters[(slice(None), 0, *offset)]
        parts.append(y)
    return torch.stack(parts, -1).reshape(*x.shape[:2], *counts)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(drawn=geometries(), seed=st.integers(0, 99))
def test_every_pooling_is_its_definition_window_by_window(
    kind: str, drawn: tuple[Windows, list[int]], seed: int
) -> None:
    windows, sizes = drawn
    counts = windows.counts(sizes)
    pooling, given = given_to(kind, windows, counts, seed)
    x = random(2, 3, *sizes, seed=seed) + 0.05
    grad = random(2, 3, *counts, seed=seed + 4) - 0.5

    def gradients(of: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [x.clone(), *(each.clone() for each in given if isinstance(each, Tensor))]
        left = iter([leaf.requires_grad_() for leaf in leaves][1:])
        tensors = tuple(next(left) if isinstance(each, Tensor) else each for each in given)
        y = of(leaves[0], tensors)
        found = torch.autograd.grad(y, leaves, grad, allow_unused=True)
        return [
            y,
            *(torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)),
        ]

    def each_window(x: Tensor, tensors: tuple[Any, ...]) -> Tensor:
        if pooling is FILTER_POOL:
            return filtered(x, tensors[0], windows, counts)
        return pooled(x, windows, counts, defined(kind, tensors))

    ours = gradients(lambda x, tensors: pooling(x, *tensors, windows=windows))
    by_hand = gradients(each_window)
    for mine, expected in zip(ours, by_hand, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str, both: str) -> None:
    pooling, given = given_to(kind, UNEVEN, UNEVEN.counts((4, 5)), 0)
    leaves = [random(2, 3, 4, 5) + 0.1, *(each for each in given if isinstance(each, Tensor))]
    for leaf in leaves:
        leaf.requires_grad_()

    def run(x: Tensor, *tensors: Tensor) -> Tensor:
        left = iter(tensors)
        return pooling(x, *(next(left) if isinstance(each, Tensor) else each for each in given), windows=UNEVEN)

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_opcheck(kind: str, dims: int, both: str) -> None:
    windows = Windows((3, 2, 2)[:dims], (2, 1, 2)[:dims], (1, 0, 1)[:dims], (1, 2, 1)[:dims], dims == 2)
    sizes = (5, 4, 4)[:dims]
    counts = windows.counts(sizes)
    pooling, given = given_to(kind, windows, counts, 0)
    leaves = (random(2, 3, *sizes).requires_grad_(), *given)
    for each in leaves:
        if isinstance(each, Tensor):
            each.requires_grad_()
    operator = getattr(torch.ops.ranp, f"{pooling.name}{dims}d")
    torch.library.opcheck(operator, (*leaves, *windows.settings))
    backward = getattr(torch.ops.ranp, f"{pooling.name}{dims}d_backward")
    plain = [each.detach() if isinstance(each, Tensor) else each for each in leaves]
    needs = [isinstance(each, Tensor) for each in leaves[: 1 + pooling.tensors]]
    torch.library.opcheck(backward, (random(2, 3, *counts), *plain, *windows.settings, needs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "filter" not in kind])
def test_narrow_types_are_computed_in_float32(kind: str, dtype: torch.dtype) -> None:
    pooling, given = given_to(kind, UNEVEN, UNEVEN.counts((4, 5)), 0)
    given = tuple(each.float() if isinstance(each, Tensor) else each for each in given)
    x = random(2, 3, 4, 5, dtype=dtype).requires_grad_()
    wide = x.detach().float().requires_grad_()
    y, expected = pooling(x, *given, windows=UNEVEN), pooling(wide, *given, windows=UNEVEN)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected.to(dtype), rtol=0, atol=0)
    y.sum().backward()
    expected.sum().backward()
    assert x.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(x.grad, wide.grad.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_but_the_inputs(kind: str, both: str) -> None:
    windows = Windows((3, 3), (1, 1), (1, 1), (1, 1))
    pooling, given = given_to(kind, windows, [6, 7], 0)
    tensors = [random(2, 3, 6, 7).requires_grad_(), *(t.requires_grad_() for t in given if isinstance(t, Tensor))]
    left = iter(tensors[1:])
    arguments = [next(left) if isinstance(each, Tensor) else each for each in given]
    kept: list[int] = []
    with saved_tensors_hooks(lambda t: (kept.append(t.data_ptr()), t)[1], lambda t: t):
        pooling(tensors[0], *arguments, windows=windows)
    assert set(kept) <= {each.data_ptr() for each in tensors}


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_layout_of_the_input_is_that_of_output_and_gradient(layout: torch.memory_format, both: str) -> None:
    x = random(2, 3, 6, 8).contiguous(memory_format=layout).requires_grad_()
    y = P_POOL(x, random(1, 3, 1, 1), None, windows=PAIRS)
    assert y.is_contiguous(memory_format=layout)
    (of_x,) = torch.autograd.grad(y.sum(), x)
    assert of_x.is_contiguous(memory_format=layout)


def choose(isa: str | None) -> bool:
    """Take an instruction set; False where this machine has none of that name."""
    function = native.function("cpu", "ranp_choose_isa", [ctypes.c_char_p])
    assert function is not None
    return function(isa.encode() if isa else None) == 0


@pytest.fixture(params=list(compiling.INSTRUCTION_SETS))
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RANP_NATIVE", "require")
    if not choose(request.param):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    choose(None)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Windows, list[Tensor | None], torch.dtype]:
    """Draw windows, the gradient, x, alpha and a shift, in the layouts that native code tells apart."""
    windows, sizes = draw(geometries(largest=draw(st.sampled_from([6, 20]))))
    batch, channels, dims = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 19])), windows.dims
    seed, dtype = draw(st.integers(0, 99)), draw(st.sampled_from([torch.float32, torch.float64]))
    x = random(batch, channels, *sizes, seed=seed)
    if draw(st.booleans()):
        x = x * (x > 0.4)
    shift = None
    if draw(st.booleans()):
        x = x - 0.5
        shift = x.amin(tuple(range(2, 2 + dims)), keepdim=True).clamp(max=0).to(dtype)
    x = x.to(dtype)
    if draw(st.booleans()) and dims > 1:
        x = x.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[dims - 2])
    counts = windows.counts(sizes)
    shapes: list[tuple[int, ...]] = [(1,) * (dims + 2), (1, channels, *[1] * dims), (batch, channels, *counts)]
    alpha = random(*draw(st.sampled_from(shapes)), seed=seed + 1) * draw(st.sampled_from([0, 1, 10, 110, float("inf")]))
    grad = random(batch, channels, *counts, seed=seed + 2, dtype=dtype) - 0.5
    return windows, [grad, x, alpha.to(dtype).nan_to_num(0), shift], dtype


def assert_native_is_the_reference(problem: tuple[Windows, list[Tensor | None], torch.dtype]) -> None:
    """Errors of native code are of the size of PyTorch's in the same type."""
    windows, tensors, dtype = problem
    needs = [True, True, False]

    def results(module: Any, given: list[Tensor | None], names: tuple[str, str]) -> list[Tensor]:
        y = getattr(module, names[0])(*given[1:], windows)
        of_x, of_alpha, _ = getattr(module, names[1])(*given, windows, needs)
        return [y, of_x, of_alpha]

    ours = results(native_pooling, tensors, ("forward", "backward"))
    names = ("p_pool", "p_pool_backward")
    theirs = results(pooling_reference, tensors, names)
    exact = results(pooling_reference, [None if t is None else t.double() for t in tensors], names)
    eps = torch.finfo(dtype).eps
    for mine, other, right in zip(ours, theirs, exact, strict=True):
        assert mine.dtype == other.dtype == dtype
        error, theirs_error = (mine - right).abs().max(), (other - right).abs().max()
        assert error <= 2 * theirs_error + 20 * eps * right.abs().max(), (error, theirs_error)


@settings(max_examples=120)
@given(problem=problems())
def test_native_is_the_reference(problem: tuple[Windows, list[Tensor | None], torch.dtype]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANP_NATIVE", "require")
        assert_native_is_the_reference(problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("last", [False, True])
def test_every_instruction_set_is_the_reference(isa: str, dtype: torch.dtype, last: bool) -> None:
    x = random(2, 37, 11, 83, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    for windows in (PAIRS, UNEVEN):
        counts = windows.counts((11, 83))
        alpha, grad = 40 * random(2, 37, *counts, seed=1, dtype=dtype), random(2, 37, *counts, seed=2, dtype=dtype)
        assert_native_is_the_reference((windows, [grad, x, alpha, None], dtype))


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")
    x, alpha = random(3, 5, 9, 20, dtype=torch.float32), random(1, 5, 1, 1, dtype=torch.float32)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [x.clone().requires_grad_(), alpha.clone().requires_grad_()]
            y = P_POOL(*leaves, None, windows=UNEVEN)
            results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(results[0], other, strict=True))


@pytest.mark.parametrize("kind", ["p", "lp sum", "dpp"])
def test_no_number_stays_none_where_it_is(kind: str, both: str) -> None:
    pooling, given = given_to(kind, PAIRS, PAIRS.counts((4, 4)), 0)
    x = random(1, 3, 4, 4)
    x[0, 1, 0, 1] = torch.nan
    assert pooling(x, *given, windows=PAIRS).isnan().nonzero().tolist() == [[0, 1, 0, 0]]


def test_float16_alpha_and_float32_input(both: str) -> None:
    x = random(1, 3, 4, 4, dtype=torch.float32).requires_grad_()
    alpha = (3 * random(1, 3, 1, 1)).half().requires_grad_()
    y = P_POOL(x, alpha, None, windows=PAIRS)
    torch.testing.assert_close(y, P_POOL(x, alpha.float(), None, windows=PAIRS), rtol=1e-6, atol=0)
    y.sum().backward()
    assert alpha.grad is not None
    assert alpha.grad.dtype == torch.float16


@pytest.mark.parametrize(
    ("x", "alpha", "windows", "message"),
    [
        (torch.zeros(1, 3, 4), torch.zeros(1, 1, 1), PAIRS, r"expected floats \(B, C, \*2 sizes\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), torch.zeros(1), PAIRS, "of torch.int64: expected floats"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(2, 1, 1), PAIRS, r"broadcasts against \(1, 3, 2, 2\)"),
        (torch.zeros(1, 3, 4, 1), torch.zeros(1), PAIRS, "expected sizes a window of"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1), Windows((2, 2), (0, 1), (0, 0), (1, 1)), "stride and dilation of at"),
        (
            torch.zeros(1, 3, 4, 4),
            torch.zeros(1),
            Windows((2, 2), (2, 2), (2, 0), (1, 1)),
            "at most half of the kernel",
        ),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1), Windows((2, 2), (2, 2), (0, -1), (1, 1)), "none negative"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, device="meta"), PAIRS, "a tensor on meta: expected cpu"),
    ],
)
def test_what_does_not_fit_is_refused_before_native_code(
    x: Tensor, alpha: Tensor, windows: Windows, message: str, both: str
) -> None:
    operator = torch.ops.ranp.p_pool2d
    with pytest.raises(ValueError, match=message):
        operator(x, alpha, None, *windows.settings)
    if alpha.device.type == "cpu":  # the fake refuses the same
        with pytest.raises(ValueError, match=message):
            operator(x.to("meta"), alpha.to("meta"), None, *windows.settings)


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (3, 2, 2, 2), (3, 1, 2, 3), (3, 1, 4, 4), (3, 1, 2)])
def test_filters_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"filters .*: expected 1 or 3 of \(1, 2, 2\) or \(1, 3, 3\)"):
        FILTER_POOL(torch.zeros(1, 3, 4, 4), torch.zeros(shape), windows=PAIRS)


def test_a_gradient_of_another_shape_is_refused(both: str) -> None:
    backward, x = torch.ops.ranp.p_pool2d_backward, torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"grad \(1, 3, 4, 4\): expected \(1, 3, 2, 2\)"):
        backward(x, x, torch.zeros(1, 1, 1, 1), None, *PAIRS.settings, [True, True, False])


def test_the_structures_of_both_sides_are_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")
    size = native.function("cpu", "ranp_pool_size", [])
    assert size is not None
    assert size() == ctypes.sizeof(native_pooling.RanpPool)
