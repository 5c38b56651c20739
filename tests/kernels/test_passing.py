"""The operators: native code against PyTorch to the last bit, derivatives, and what the compiler asks of them."""

import ctypes
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ranp.kernels import _native_passing as native_passing
from ranp.kernels import _reference_backward as reference_backward
from ranp.kernels import compiling, native, reference
from ranp.kernels.passing import SPEC, _packed, check, message_passing, message_passing_backward, run
from ranp.kernels.reference import METHODS, Spec

TABLES = {
    (4, 5): ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (2, -1), (-2, 1)),
    (1, 7): ((0, 1), (0, -1), (1, 0), (-1, 0)),
    (3, 4, 2): ((0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (1, -1, 1), (-1, 1, -1)),
    (9,): ((1,), (-1,)),
}


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")


def choose(isa: str | None) -> bool:
    """Take an instruction set; False where this machine has none of that name."""
    function = native.function("cpu", "ranp_choose_isa", [ctypes.c_char_p])
    assert function is not None
    return function(isa.encode() if isa else None) == 0


@pytest.fixture(params=list(compiling.INSTRUCTION_SETS))
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    if not choose(request.param):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    choose(None)


def smooth(labels: int, window: int, dtype: torch.dtype) -> Tensor:
    index = torch.arange(labels)
    return (index[:, None] - index).abs().clamp(max=window or labels).to(dtype) * 0.7


def inputs(seed: int, spec: Spec, batch: int, labels: int, dtype: torch.dtype, edges: str, ties: bool) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    nodes, directions = torch.Size(spec.shape).numel(), len(spec.steps)
    unary = torch.rand((batch, labels, nodes), generator=random, dtype=dtype) * 9
    unary = (unary.round() if ties else unary).transpose(1, 2)
    sizes = {
        "one": (1, 1, 1),
        "direction": (1, directions, 1),
        "edge": (1, directions, nodes),
        "batch": (batch, directions, nodes),
    }
    weights = torch.rand(sizes[edges], generator=random, dtype=dtype) * 3
    if edges == "edge":
        weights = weights - 0.5  # some negative, for which no window holds
    if edges == "one":
        weights = weights.expand(1, directions, 1)
    pairwise = torch.rand((labels, labels), generator=random, dtype=dtype)
    if spec.window or ties:
        pairwise = smooth(labels, spec.window, dtype)
    return [unary, weights, pairwise.round() if ties else pairwise]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Spec, list[Tensor]]:
    shape = draw(st.sampled_from(list(TABLES)))
    labels = draw(st.sampled_from([1, 2, 3, 7, 8, 16, 17, 33, 65, 100]))
    window = draw(st.sampled_from([0, 1, 2, 5, 20]))
    spec = Spec(
        method=draw(st.sampled_from(METHODS)),
        shape=shape,
        steps=TABLES[shape],
        iterations=draw(st.integers(1, 3)),
        rho=draw(st.sampled_from([0.5, 0.3, 1.0])),
        last=draw(st.booleans()),
        normalise=draw(st.booleans()),
        window=window if window < labels else 0,
        record=draw(st.booleans()),
    )
    edges = draw(st.sampled_from(["one", "direction", "edge", "batch"]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    made = inputs(draw(st.integers(0, 99)), spec, draw(st.integers(1, 3)), labels, dtype, edges, draw(st.booleans()))
    return spec, made


def assert_same(spec: Spec, tensors: list[Tensor]) -> None:
    """The forward agrees in every bit; the sums of the backward agree up to their order."""
    ours, theirs = native_passing.forward(*tensors, spec, True), reference.forward(*tensors, spec)
    assert ours is not None
    for name, mine, expected in zip(ours._fields, ours, theirs, strict=True):
        assert torch.equal(mine, expected), name
    if not spec.record:
        return
    grad = torch.rand(ours.cost.shape, dtype=ours.cost.dtype, generator=torch.Generator().manual_seed(1))
    saved = (grad, ours.p, ours.q, *tensors[1:], spec)
    mine, expected = native_passing.backward(*saved, True, True), reference_backward.backward(*saved)
    assert mine is not None
    wide = reference_backward.backward(*(t.double() if t.is_floating_point() else t for t in saved[:-1]), spec)
    for found, other, exact in zip(mine, expected, wide, strict=True):
        error = (found - exact).abs().max()
        assert error <= 4 * (other - exact).abs().max() + 100 * torch.finfo(found.dtype).eps * exact.abs().max()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_native_is_the_reference(problem: tuple[Spec, list[Tensor]]) -> None:
    assert_same(*problem)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_is_the_reference(isa: str, method: str, window: int, dtype: torch.dtype) -> None:
    spec = Spec(method, (4, 5), TABLES[4, 5], 2, window=window)
    for labels in (5, 21, 70):
        for last in (False, True):
            tensors = inputs(labels, spec, 2, labels, dtype, "batch", ties=last)
            assert_same(replace(spec, last=last), tensors)


def test_two_byte_indices_above_256_labels() -> None:
    spec = Spec("trwp", (2, 3), ((0, 1), (0, -1), (1, 0), (-1, 0)), 1)
    tensors = inputs(0, spec, 1, 300, torch.float32, "direction", ties=False)
    assert_same(spec, tensors)
    assert reference.forward(*tensors, spec).p.dtype == torch.int16
    assert reference.index_dtype(256) == torch.uint8


def test_threads_change_nothing() -> None:
    spec = Spec("isgmr", (9, 8), ((0, 1), (0, -1), (1, 0), (-1, 0)), 2)
    tensors = [tensor.requires_grad_() for tensor in inputs(0, spec, 2, 12, torch.float32, "batch", ties=False)]
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            cost = run(*tensors, spec).cost
            results.append([cost, *torch.autograd.grad(cost.square().sum(), tensors)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(results[0], other, strict=True))


@pytest.mark.parametrize("mode", ["off", "require"])
@pytest.mark.parametrize("method", METHODS)
def test_gradcheck(method: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", mode)
    spec = Spec(method, (3, 4), TABLES[4, 5], 2)
    tensors = [tensor.requires_grad_() for tensor in inputs(3, spec, 2, 3, torch.float64, "batch", ties=False)]
    assert torch.autograd.gradcheck(lambda *given: run(*given, spec).cost, tensors)


def test_the_schemas_name_the_fields_of_a_spec() -> None:
    names = [field.name for field in fields(Spec)]
    assert [word.split()[1] for word in SPEC.split(", ")] == names
    for operator, first in ((message_passing, 3), (message_passing_backward, 5)):
        arguments = operator._opoverload._schema.arguments
        assert [argument.name for argument in arguments[first : first + len(names)]] == names


@pytest.mark.parametrize("method", METHODS)
def test_opcheck(method: str) -> None:
    spec = Spec(method, (3, 4), TABLES[4, 5][:4], 2)
    tensors = inputs(3, spec, 2, 3, torch.float32, "batch", ties=False)
    for needed in (False, True):
        given_ = [tensor.detach().requires_grad_(needed) for tensor in tensors]
        torch.library.opcheck(message_passing, (*given_, *_packed(spec), True))
    found = run(*tensors, spec)
    arguments = (torch.ones_like(found.cost), found.p, found.q, *tensors[1:], *_packed(spec), True, True)
    torch.library.opcheck(message_passing_backward, arguments)


def test_indices_take_k_r_n_l_plus_one_bytes() -> None:
    spec = Spec("trwp", (4, 5), TABLES[4, 5], 3)
    found = run(*inputs(0, spec, 2, 7, torch.float32, "one", ties=False), spec)
    assert found.p.nbytes + found.q.nbytes == 3 * 8 * (2 * 20) * (7 + 1)
    assert found.messages.numel() == 0


def test_nothing_is_recorded_unless_asked_for() -> None:
    spec = Spec("isgmr", (4, 5), TABLES[4, 5], 1, record=False)
    found = run(*inputs(0, spec, 1, 4, torch.float32, "one", ties=False), spec, keep=True)
    assert found.p.numel() == found.q.numel() == 0
    assert found.messages.shape == (8, 1, 20, 4)


@pytest.mark.parametrize("batch", [0, 1])
def test_empty_batch_gives_empty(batch: int) -> None:
    spec = Spec("trwp", (4, 5), TABLES[4, 5], 1)
    found = run(*inputs(0, spec, batch, 4, torch.float32, "one", ties=False), spec)
    assert found.cost.shape == (batch, 20, 4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"unary": torch.zeros(1, 19, 4)}, "19 nodes"),
        ({"unary": torch.zeros(1, 20, 4, dtype=torch.float16)}, "float32 or float64"),
        ({"unary": torch.zeros(1, 20, 1025), "pairwise": torch.zeros(1025, 1025)}, "1025 labels"),
        ({"weights": torch.zeros(1, 7, 1)}, "weights"),
        ({"pairwise": torch.zeros(2, 2)}, r"pairwise \(2, 2\): expected \(4, 4\)"),
        ({"pairwise": torch.zeros(4, 4, dtype=torch.float64)}, "one dtype and one device"),
        ({"spec": Spec("trw", (4, 5), TABLES[4, 5], 1)}, "method 'trw'"),
        ({"spec": Spec("trwp", (4, 5), TABLES[4, 5][1:], 1)}, "steps"),
        ({"spec": Spec("trwp", (4, 5), (), 1), "weights": torch.zeros(1, 0, 1)}, "expected pairs of non-zero steps"),
        ({"spec": Spec("trwp", (4, 5), TABLES[4, 5], 0)}, "0 iterations"),
        ({"spec": Spec("trwp", (4, 5), TABLES[4, 5], 1, window=4)}, "window 4: expected 0 to 3"),
        ({"spec": Spec("trwp", (4, 5), TABLES[4, 5], 1, window=-1)}, "window -1"),
    ],
)
def test_check_refuses_what_c_would_read_out_of_bounds(change: dict[str, Tensor | Spec], text: str) -> None:
    good = {"unary": torch.zeros(1, 20, 4), "weights": torch.zeros(1, 8, 1), "pairwise": torch.zeros(4, 4)}
    given_ = good | {"spec": Spec("trwp", (4, 5), TABLES[4, 5], 1)} | change
    with pytest.raises(ValueError, match=text):
        check(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [torch.nan, torch.inf])
def test_indices_are_labels_whatever_the_costs(isa: str, cost: float) -> None:
    """Of a training that diverges: the backward reads what they point to, and must give NaN, not foreign memory."""
    spec = Spec("trwp", (4, 5), TABLES[4, 5], 2, window=2, last=True)
    unary, weights, pairwise = inputs(0, spec, 1, 45, torch.float32, "one", ties=True)
    found = run(torch.full_like(unary, cost), weights.abs(), pairwise, spec)
    assert int(found.p.max()) < 45
    assert int(found.q.max()) < 45


def test_the_structure_is_as_large_as_the_c_one() -> None:
    size = native.function("cpu", "ranp_pass_size", [])
    assert size is not None
    assert size() == ctypes.sizeof(native_passing.RanpPass)
