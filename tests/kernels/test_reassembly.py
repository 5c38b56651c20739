"""The reassembly: its definition point by point, native code against PyTorch in every bit, two orders of derivative."""

import ctypes
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ranp.kernels import _native_reassembly, compiling, native, reassembly_reference
from ranp.kernels.reassembly import check, reassemble, reassemble_backward

Problem = tuple[Tensor, Tensor, tuple[int, ...]]


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")


@pytest.fixture(params=list(compiling.INSTRUCTION_SETS))
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    choose = native.function("cpu", "ranp_choose_isa", [ctypes.c_char_p])
    assert choose is not None
    if choose(request.param.encode()):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    choose(None)


def problem(
    batch: int,
    channels: int,
    coarse: tuple[int, ...],
    fine: tuple[int, ...],
    kernel_size: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    last: bool = False,
) -> Problem:
    random = torch.Generator().manual_seed(channels)
    x = torch.randn((batch, channels, *coarse), generator=random, dtype=dtype)
    kernels = torch.randn((batch, torch.Size(kernel_size).numel(), *fine), generator=random, dtype=dtype)
    turned = [tensor.movedim(1, -1).contiguous().movedim(-1, 1) if last else tensor for tensor in (x, kernels)]
    return turned[0], turned[1], kernel_size


def by_definition(x: Tensor, kernels: Tensor, kernel_size: tuple[int, ...]) -> Tensor:
    """Sum one product after the other, as the formula stands in reassembly_reference.py."""
    coarse, fine = x.shape[2:], kernels.shape[2:]
    out = x.new_zeros((*x.shape[:2], *fine))
    offsets = list(product(*(range(-(size // 2), size // 2 + 1) for size in kernel_size)))
    for position in product(*map(range, fine)):
        source = [p * c // f for p, c, f in zip(position, coarse, fine, strict=True)]
        for tap, offset in enumerate(offsets):
            neighbour = [s + o for s, o in zip(source, offset, strict=True)]
            if all(0 <= n < c for n, c in zip(neighbour, coarse, strict=True)):
                out[(..., *position)] += kernels[(slice(None), tap, None, *position)] * x[(..., *neighbour)]
    return out


CASES = [
    ((5,), (10,), (3,)),
    ((4, 3), (8, 6), (5, 5)),
    ((3, 4), (7, 7), (3, 5)),  # odd sizes: one more, one less than twice as many
    ((2, 3), (6, 9), (1, 3)),
    ((3, 2), (3, 2), (3, 3)),  # no scale: a filter of its own for every position
    ((5, 4), (3, 2), (3, 3)),  # fewer fine positions than coarse ones: some sources have none
    ((2, 3, 2), (4, 7, 4), (3, 3, 3)),
    ((2, 3, 2), (2, 6, 4), (1, 3, 3)),
]


@pytest.mark.parametrize("mode", ["off", "require"])
@pytest.mark.parametrize(("coarse", "fine", "kernel_size"), CASES)
def test_it_is_the_definition(
    mode: str,
    coarse: tuple[int, ...],
    fine: tuple[int, ...],
    kernel_size: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANP_NATIVE", mode)
    given_ = problem(2, 3, coarse, fine, kernel_size)
    torch.testing.assert_close(reassemble(*given_), by_definition(*given_), rtol=0, atol=1e-13)


def assert_same(given_: Problem) -> None:
    """The forward agrees in every bit; the sums of the backward agree up to their order."""
    ours, theirs = _native_reassembly.forward(*given_), reassembly_reference.forward(*given_)
    assert ours is not None
    assert torch.equal(ours, theirs)
    x, kernels, _ = given_
    assert ours.stride() == _native_reassembly.new_like(x, x.shape[1], kernels.shape[2:]).stride()
    grad = torch.randn(theirs.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    mine = _native_reassembly.backward(grad, *given_, True, True)
    assert mine is not None
    for ours, other, exact in zip(mine, _gradients(grad, *given_), _gradients(grad, *given_, wide=True), strict=True):
        assert ours.shape == other.shape
        error = (ours - exact).abs().max()
        assert error <= 4 * (other - exact).abs().max() + 100 * torch.finfo(x.dtype).eps * exact.abs().max()


def _gradients(
    grad: Tensor, x: Tensor, kernels: Tensor, kernel_size: tuple[int, ...], *, wide: bool = False
) -> tuple[Tensor, Tensor]:
    if wide:
        grad, x, kernels = grad.double(), x.double(), kernels.double()
    of_x = reassembly_reference.gradient_of_x(grad, kernels, kernel_size, x.shape[2:])
    return of_x, reassembly_reference.gradient_of_kernels(grad, x, kernel_size)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    dims = draw(st.integers(1, 3))
    coarse = tuple(draw(st.lists(st.integers(1, 7), min_size=dims, max_size=dims)))
    fine = tuple(draw(st.integers(1, 4 * size + 3)) for size in coarse)
    kernel_size = tuple(draw(st.lists(st.sampled_from([1, 3, 5]), min_size=dims, max_size=dims)))
    channels = draw(st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 65, 130]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return problem(draw(st.integers(1, 2)), channels, coarse, fine, kernel_size, dtype, draw(st.booleans()))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_native_is_the_reference(given_: Problem) -> None:
    assert_same(given_)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("last", [False, True])
def test_every_instruction_set_is_the_reference(isa: str, dtype: torch.dtype, last: bool) -> None:
    for channels in (1, 16, 70, 133):
        assert_same(problem(2, channels, (4, 35), (8, 71), (5, 5), dtype, last))
        assert_same(problem(1, channels, (3, 2, 5), (6, 5, 10), (3, 3, 3), dtype, last))


def test_threads_change_nothing() -> None:
    x, kernels, kernel_size = problem(2, 20, (9, 70), (18, 140), (5, 5), torch.float32)
    inputs = [x.requires_grad_(), kernels.requires_grad_()]
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = reassemble(x, kernels, kernel_size)
            results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(results[0], other, strict=True))


@pytest.mark.parametrize("mode", ["off", "require"])
@pytest.mark.parametrize(("coarse", "fine", "kernel_size"), CASES)
def test_derivatives_of_both_orders(
    mode: str,
    coarse: tuple[int, ...],
    fine: tuple[int, ...],
    kernel_size: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANP_NATIVE", mode)
    x, kernels, _ = problem(1, 2, coarse, fine, kernel_size)
    for needed in ((True, True), (True, False), (False, True)):
        inputs = [tensor.detach().requires_grad_(need) for tensor, need in zip((x, kernels), needed, strict=True)]
        assert torch.autograd.gradcheck(lambda a, b: reassemble(a, b, kernel_size), inputs)
    inputs = [x.requires_grad_(), kernels.requires_grad_()]
    assert torch.autograd.gradgradcheck(lambda a, b: reassemble(a, b, kernel_size), inputs, fast_mode=True)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", ["off", "require"])
def test_opcheck(mode: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", mode)
    for coarse, fine, kernel_size in (CASES[2], CASES[6]):
        x, kernels, _ = problem(2, 3, coarse, fine, kernel_size, torch.float32, last)
        for needed in (False, True):
            inputs = [tensor.detach().requires_grad_(needed) for tensor in (x, kernels)]
            torch.library.opcheck(reassemble, (*inputs, kernel_size))
            grad = torch.rand_like(reassemble(x, kernels, kernel_size)).requires_grad_(needed)
            for flags in ((True, True), (True, False), (False, True)):
                torch.library.opcheck(reassemble_backward, (grad, *inputs, kernel_size, *flags))


def test_only_the_inputs_are_kept_for_the_backward() -> None:
    x, kernels, kernel_size = problem(1, 8, (6, 6), (12, 12), (5, 5), torch.float32)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        reassemble(x.requires_grad_(), kernels.requires_grad_(), kernel_size)
    assert sorted(tensor.data_ptr() for tensor in kept) == sorted([x.data_ptr(), kernels.data_ptr()])


def test_non_contiguous_and_empty_inputs() -> None:
    x, kernels, kernel_size = problem(2, 6, (4, 3), (8, 6), (3, 3))
    strided = x.repeat_interleave(2, 1)[:, ::2], kernels.flip(3).flip(3).transpose(2, 3).contiguous().transpose(2, 3)
    assert not any(tensor.is_contiguous() for tensor in strided)
    assert torch.equal(reassemble(*strided, kernel_size), reassemble(x, kernels, kernel_size))
    assert reassemble(x[:0], kernels[:0], kernel_size).shape == (0, 6, 8, 6)
    assert reassemble(x[:, :0], kernels, kernel_size).shape == (2, 0, 8, 6)


def test_it_compiles_as_one_graph() -> None:
    x, kernels, kernel_size = problem(1, 3, (4, 3), (8, 6), (3, 3), torch.float32)
    compiled = torch.compile(lambda a, b: reassemble(a, b, kernel_size) * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, kernels), reassemble(x, kernels, kernel_size) * 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": torch.zeros(1, 2, 4)}, r"kernel_size \(3, 3\): expected 1 odd"),
        ({"x": torch.zeros(1, 2, 4, 4, dtype=torch.float16)}, "float32 or float64"),
        ({"x": torch.zeros(2, 4)}, r"x \(2, 4\)"),
        ({"kernel_size": (3, 4)}, r"kernel_size \(3, 4\): expected 2 odd numbers"),
        ({"kernel_size": (3, 5)}, r"kernels \(1, 9, 8, 8\): expected \(1, 15, \*2 sizes\)"),
        ({"kernels": torch.zeros(2, 9, 8, 8)}, r"expected \(1, 9"),
        ({"kernels": torch.zeros(1, 9, 8)}, "kernels"),
        ({"kernels": torch.zeros(1, 9, 0, 8)}, "at least one position"),
        ({"kernels": torch.zeros(1, 9, 8, 8, dtype=torch.float64)}, "one dtype and one device"),
    ],
)
def test_check_refuses_what_c_would_read_out_of_bounds(change: dict[str, object], text: str) -> None:
    good = {"x": torch.zeros(1, 2, 4, 4), "kernels": torch.zeros(1, 9, 8, 8), "kernel_size": (3, 3)}
    with pytest.raises(ValueError, match=text):
        check(**(good | change))  # type: ignore[arg-type]


def test_a_gradient_of_another_shape_is_refused() -> None:
    x, kernels, kernel_size = problem(1, 2, (4, 4), (8, 8), (3, 3))
    with pytest.raises(ValueError, match=r"grad \(1, 2, 8, 7\): expected \(1, 2, 8, 8\)"):
        reassemble_backward(x.new_zeros(1, 2, 8, 7), x, kernels, kernel_size, True, True)
    with pytest.raises(ValueError, match="grad and x: expected one dtype"):
        reassemble_backward(torch.zeros(1, 2, 8, 8), x, kernels, kernel_size, True, True)


@pytest.mark.parametrize("coarse", [1, 2, 3, 7, 12])
def test_every_fine_position_is_in_the_piece_of_its_source(coarse: int) -> None:
    for fine in range(1, 30):
        source = reassembly_reference.source(coarse, fine, torch.device("cpu"))
        table = _native_reassembly.starts(coarse, fine, torch.device("cpu"))
        assert torch.equal(table.diff(), source.bincount(minlength=coarse))
        assert (table[0], table[-1]) == (0, fine)


def test_tables_of_a_graph_that_is_captured_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made on its stream, and nothing that was made for another is read by it."""
    tables = []
    for stream in (7, 8, None, None, 7):
        monkeypatch.setattr(_native_reassembly, "table_stream", lambda device, stream=stream: stream)
        tables.append(_native_reassembly.starts(3, 5, torch.device("cpu")))
    assert tables[4] is tables[0]
    assert len({id(table) for table in tables}) == 4


def test_the_structure_is_as_large_as_the_c_one() -> None:
    size = native.function("cpu", "ranp_reassembly_size", [])
    assert size is not None
    assert size() == ctypes.sizeof(_native_reassembly.RanpReassembly)
