"""The modules: limits, shapes, indices, where exponents come from, and mistakes."""

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ranp.adapters import pooling
from ranp.adapters.pooling import DPP, GatedPool, LpPool, PPool
from ranp.errors import UsageError
from ranp.kernels.pooling import P_POOL

MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
SIZES = (7, 6, 5)
GEOMETRIES: list[tuple[int, int, int, bool]] = [(2, 2, 0, False), (3, 2, 1, True), (3, 1, 1, False), (2, 3, 1, True)]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_gradient(pool: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = pool(x)
    weights = drawn(*y.shape, seed=9).to(y.dtype) - 0.5
    return y.detach(), torch.autograd.grad(y, x, weights)[0]


def every(dims: int = 2, channels: int = 3, **settings: Any) -> list[nn.Module]:
    """Return pools of every kind and mode."""
    own = {"dims": dims, "channels": channels, **settings}
    pools = [PPool(2, mode=mode, **own) for mode in ("fixed", "layer", "channel", "predicted")]
    pools += [LpPool(2, mode=mode, mean=mode == "layer", **own) for mode in ("fixed", "layer", "channel")]
    pools += [DPP(2, form=form, symmetric=form == "full", **own) for form in ("lite", "full")]
    shared = GatedPool(2, **{name: value for name, value in own.items() if name != "channels"})
    return [*pools, GatedPool(2, **own), shared]


def names(pool: nn.Module) -> str:
    return f"{type(pool).__name__}-{getattr(pool, 'mode', getattr(pool, 'form', ''))}"


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("last", [False, True])
def test_an_exponent_of_zero_is_the_mean_and_infinity_the_maximum(
    dims: int, geometry: tuple[int, int, int, bool], last: bool
) -> None:
    kernel, stride, padding, ceil = geometry
    x = drawn(2, 3, *SIZES[:dims]) + 0.1
    if last and dims > 1:
        x = x.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[dims - 2])
    own = {"ceil_mode": ceil, "dims": dims}
    mean = AVERAGE[dims](kernel, stride, padding, ceil_mode=ceil, count_include_pad=False)
    ours, theirs = with_gradient(PPool(kernel, stride, padding, alpha=0, **own), x), with_gradient(mean, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    largest = MAX[dims](kernel, stride, padding, ceil_mode=ceil)
    for alpha in (1e9, float("inf")):
        pool = PPool(kernel, stride, padding, alpha=alpha, **own)
        torch.testing.assert_close(with_gradient(pool, x), with_gradient(largest, x), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(pool(x - 0.5), largest(x - 0.5), rtol=1e-12, atol=1e-13)  # shifted


def test_a_window_of_nothing_but_the_shift_is_that_and_has_no_gradient_but_at_zero() -> None:
    x = torch.tensor([[[[-2.0, -2.0, 1.0, 3.0]] * 2]], dtype=torch.float64)
    for alpha, left in ((0.0, 1.0), (2.0, 0.0), (float("inf"), 0.0)):
        leaf = x.clone().requires_grad_()
        y = PPool(2, alpha=alpha)(leaf)
        assert y[0, 0, 0, 0] == -2
        (of_x,) = torch.autograd.grad(y.sum(), leaf)
        assert of_x[..., :2].sum() == left


def test_close_to_zero_it_is_close_to_the_mean_where_nothing_is_zero() -> None:
    x = drawn(2, 3, 6, 6) + 0.1
    for alpha in (1e-3, 1e-6):
        ours, theirs = with_gradient(PPool(2, alpha=alpha), x), with_gradient(nn.AvgPool2d(2), x)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=10 * alpha)


def test_tied_maxima_share_the_gradient() -> None:
    x = torch.tensor([[[[2.0, 2.0], [1.0, 2.0]]]], dtype=torch.float64, requires_grad=True)
    (of_x,) = torch.autograd.grad(PPool(2, alpha=float("inf"))(x).sum(), x)
    assert of_x.flatten().tolist() == [1 / 3, 1 / 3, 0, 1 / 3]


def test_zeros_count_at_zero_alone() -> None:
    """0^0 is 1, and 0^alpha is 0 for every other alpha: the mean of all elements jumps to that of the others."""
    x = torch.tensor([[[[0.0, 0.0], [1.0, 3.0]]]])
    assert PPool(2, alpha=0)(x).item() == pytest.approx(1, rel=1e-6)
    assert PPool(2, alpha=1e-6)(x).item() == pytest.approx(2, rel=1e-5)


@settings(max_examples=50)
@given(
    values=st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4),
    alphas=st.tuples(st.floats(0, 120), st.floats(0, 120)),
    factor=st.floats(1e-3, 1e3),
)
def test_it_grows_with_alpha_from_mean_to_maximum_and_scales_with_its_input(
    values: list[float], alphas: tuple[float, float], factor: float
) -> None:
    x = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 2, 2).requires_grad_()
    low, high = (PPool(2, alpha=alpha, negative="trust")(x) for alpha in sorted(alphas))
    slack = 1 + 1e-12
    assert sum(values) / 4 <= low * slack
    assert low <= high * slack
    assert high <= max(values) * slack
    torch.testing.assert_close(
        PPool(2, alpha=min(alphas), negative="trust")(factor * x), factor * low, rtol=1e-10, atol=0
    )
    (of_x,) = torch.autograd.grad(high, x)
    torch.testing.assert_close((x * of_x).sum(), high.squeeze(), rtol=1e-9, atol=0)  # Euler


@pytest.mark.parametrize("native", ["require", "off"])
@pytest.mark.parametrize("alpha", [0.5, 2.0, 24.0, 70.0, 110.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0, 1e4])
def test_float32_up_to_110(alpha: float, scale: float, native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stated errors are 3e-7 of y and 1e-5 of the gradient at 110; at 24 the plain ratio is infinite."""
    monkeypatch.setenv("RANP_NATIVE", native)
    x = (scale * (0.02 + drawn(4, 8, 16, 16))).float()
    pool = PPool(2, alpha=alpha)
    y, of_x = with_gradient(pool, x)
    right, of_right = with_gradient(pool, x.double())
    assert ((y - right).abs() / right).max() < 3e-7
    assert (of_x - of_right).abs().max() < 1e-5


def test_float32_would_overflow_in_the_plain_form() -> None:
    x = torch.full((1, 1, 2, 2), 40.0)
    assert not (x**25).sum().isfinite() or not (x**71).sum().isfinite()
    assert PPool(2, alpha=70)(x).item() == 40
    tiny = torch.tensor([[[[1e-30, 3e-30], [0.0, 2e-30]]]])
    assert PPool(2, alpha=110)(tiny).item() == pytest.approx(3e-30, rel=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_pool_in_every_dimension_with_and_without_a_batch(dims: int) -> None:
    x = drawn(2, 3, *SIZES[:dims], dtype=torch.float32).requires_grad_()
    for pool in every(dims):
        y = pool(x)
        assert y.shape == (2, 3, *(size // 2 for size in SIZES[:dims]))
        torch.testing.assert_close(torch.stack([pool(image) for image in x]), y)
        moved = torch.autograd.grad(y.sum(), [x, *pool.parameters()])
        assert all(gradient.isfinite().all() for gradient in moved)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_indices_are_those_of_the_maxima_and_unpooling_puts_the_values_there(dims: int) -> None:
    x = drawn(2, 3, *SIZES[:dims], dtype=torch.float32)
    largest, places = MAX[dims](2, return_indices=True)(x)
    for pool in every(dims, return_indices=True):
        y, indices = pool(x)
        assert torch.equal(indices, places)
        unpool = (nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)[dims - 1](2)
        spread = unpool(y, indices, output_size=x.shape[2:])
        torch.testing.assert_close(spread.flatten(2).gather(2, indices.flatten(2)).reshape(y.shape), y)
        one, one_index = pool(x[0])
        assert one.shape == one_index.shape == y.shape[1:]
    close = PPool(2, alpha=float("inf"), return_indices=True, dims=dims)(x)[0]
    torch.testing.assert_close(close, largest)


def test_a_side_branch_begins_as_its_bias_and_moves() -> None:
    pool, x = PPool(3, 2, 1, mode="predicted", channels=4), drawn(2, 4, 9, 8, dtype=torch.float32)
    assert torch.equal(pool.alpha(x), torch.full((2, 4, 5, 4), 70.0))
    torch.testing.assert_close(pool(x), PPool(3, 2, 1, alpha=70)(x))
    optimizer = torch.optim.SGD(pool.parameters(), lr=1e3)
    for _ in range(3):
        optimizer.zero_grad()
        pool(x).square().sum().backward()
        optimizer.step()
    alpha = pool.alpha(x)
    assert alpha.std() > 0
    assert alpha.min() >= 1
    assert alpha.max() <= 110
    state = copy.deepcopy(pool.state_dict())
    other = PPool(3, 2, 1, mode="predicted", channels=4, seed=5)
    assert not torch.equal(other.alpha.filters, PPool(3, 2, 1, mode="predicted", channels=4).alpha.filters)
    other.load_state_dict(state)
    assert torch.equal(other(x), pool(x))


def test_no_gradient_flows_through_the_side_branch() -> None:
    pool, x = PPool(2, mode="predicted", channels=2).double(), drawn(1, 2, 4, 4) + 0.1
    with torch.no_grad():
        pool.alpha.factors.fill_(20)
    frozen = pool.alpha(x).detach()
    _, of_x = with_gradient(pool, x)
    _, expected = with_gradient(lambda x: P_POOL(x, frozen, None, windows=pool.windows), x)
    torch.testing.assert_close(of_x, expected)
    assert (frozen.std() > 0).item()


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_side_branch_has_a_value_for_every_window(ceil: bool, dilation: int) -> None:
    pool = PPool(3, 2, 1, dilation, ceil, mode="predicted", channels=2)
    full = DPP(3, 2, 1, dilation, ceil, channels=2, form="full")
    for side in range(5, 10):
        x = drawn(1, 2, side, side + 1, dtype=torch.float32)
        expected = F.max_pool2d(x, 3, 2, 1, dilation, ceil).shape
        assert pool.alpha(x).shape == pool(x).shape == full(x).shape == expected


def test_the_full_form_begins_as_the_lite_one_where_windows_are_whole() -> None:
    x = drawn(2, 3, 8, 6)
    lite, full = DPP(2, channels=3).double(), DPP(2, channels=3, form="full").double()
    torch.testing.assert_close(full(x), lite(x))


def test_detail_preserving_pooling_leads_from_mean_to_maximum() -> None:
    x, pool = drawn(2, 3, 6, 6), DPP(2, channels=3).double()
    with torch.no_grad():
        pool.log_strength.fill_(-30)
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 2))
    with torch.no_grad():
        pool.log_strength.fill_(9)
        pool.log_offset.fill_(-30)
    torch.testing.assert_close(pool(x), F.max_pool2d(x, 2), rtol=1e-3, atol=1e-3)
    assert pool.float()(1e3 * x.float()).isfinite().all()


def test_gated_pooling_with_dilation_is_halfway_between_maximum_and_mean() -> None:
    x = drawn(1, 2, 7, 7)
    found = GatedPool(2, 1, 1, 2).double()(x)
    mean = PPool(2, 1, 1, 2, alpha=0)(x)
    torch.testing.assert_close(found, (F.max_pool2d(x, 2, 1, 1, 2) + mean) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_pool_takes_narrow_types_in_every_dimension(dims: int, dtype: torch.dtype) -> None:
    x = drawn(2, 3, *SIZES[:dims], dtype=dtype).requires_grad_()
    for pool in every(dims):
        y, expected = copy.deepcopy(pool).to(dtype)(x), pool(x.detach().float())
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), expected, rtol=3e-2, atol=3e-2)
        (of_x,) = torch.autograd.grad(y.sum(), x)
        assert of_x.isfinite().all()


def test_lp_pooling_is_torchs_and_its_mean_the_power_mean() -> None:
    x = drawn(2, 3, 6, 6)
    torch.testing.assert_close(LpPool(2, power=3)(x), F.lp_pool2d(x, 3, 2))
    torch.testing.assert_close(LpPool(2, power=1, mean=True)(x), F.avg_pool2d(x, 2))
    torch.testing.assert_close(LpPool(2, power=float("inf"))(x), F.max_pool2d(x, 2))


def test_a_learned_exponent_outside_its_range_finds_back() -> None:
    """A clamp alone would pass no gradient there."""
    pool = PPool(2, mode="layer", alpha=2, alpha_range=(1, 3))
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    for outside, bound in ((5.0, 3.0), (0.5, 1.0)):
        with torch.no_grad():
            pool.alpha.exponent.fill_(outside)
        torch.testing.assert_close(pool(x), PPool(2, alpha=bound)(x))
        inward, outward = (torch.autograd.grad(sign * pool(x).sum(), pool.alpha.exponent)[0] for sign in (1, -1))
        if outside < bound:
            inward, outward = outward, inward
        assert outward == 0
        assert inward.sign() == (1 if outside > bound else -1)  # a step against it goes inside


def test_learning_moves_every_exponent() -> None:
    x = drawn(2, 3, 6, 6, dtype=torch.float32)
    target = F.avg_pool2d(x, 2)
    pool = PPool(2, mode="channel", channels=3, alpha=5, alpha_range=(0, 110))
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        (pool(x) - target).square().sum().backward()
        optimizer.step()
    assert (pool.alpha(x) < 0.5).all()


@pytest.mark.parametrize("index", range(len(every())))
def test_under_autocast_and_with_the_compiler(index: int) -> None:
    pool, x = every()[index], drawn(2, 3, 6, 6, dtype=torch.float32).requires_grad_()
    y = pool(x)
    torch._dynamo.reset()  # type: ignore[no-untyped-call]  # it counts how often one function is compiled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pool(x).float(), y, rtol=2e-2, atol=2e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about itself
        compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), y)
        leaves = [x, *pool.parameters()]
        ours, theirs = (torch.autograd.grad(run(x).square().sum(), leaves) for run in (compiled, pool))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pool", [PPool(2, negative="refuse"), LpPool(2)], ids=names)
def test_negative_inputs_are_refused_where_there_are_values_to_read(pool: nn.Module) -> None:
    x = drawn(1, 2, 4, 4, dtype=torch.float32) - 0.25
    message = f"{type(pool).__name__}: the least value of its input is -0.1[0-9]*; expected none below 0"
    with pytest.raises(UsageError, match=message):
        pool(x)
    assert pool(x.abs()).isfinite().all()
    assert pool(x.to("meta")).shape == (1, 2, 2, 2)
    with FakeTensorMode():
        assert pool(torch.empty(1, 2, 4, 4)).shape == (1, 2, 2, 2)
    exported = torch.export.export(pool, (x.abs(),))
    torch.testing.assert_close(exported.module()(x.abs()), pool(x.abs()))
    assert "ranp." not in str(exported.graph)
    assert pool(x[:0]).shape == (0, 2, 2, 2)


def test_trusting_there_are_none_costs_no_look_at_the_values() -> None:
    x = drawn(1, 2, 4, 4, dtype=torch.float32)
    for module, trusting in (
        (PPool(2, negative="refuse"), PPool(2, negative="trust")),
        (LpPool(2), LpPool(2, negative="trust")),
    ):
        assert torch.equal(module(x), trusting(x))


@pytest.mark.parametrize("pool", every(), ids=names)
def test_traced_programs_hold_plain_ops(pool: nn.Module) -> None:
    x = drawn(2, 3, 6, 6, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        traced = torch.jit.trace(pool, x)
        assert "ranp::" not in str(traced.inlined_graph)
        torch.testing.assert_close(traced(x), pool(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PPool(0), "kernel_size=0: expected a whole number of at least 1, or 2 of them"),
        (lambda: PPool((2, 2), dims=3), r"kernel_size=\(2, 2\): expected a whole number of at least 1, or 3 of them"),
        (lambda: PPool(2.5), "kernel_size=2.5: expected a whole number"),  # type: ignore[arg-type]
        (lambda: PPool(2, stride=0), "stride=0: expected a whole number of at least 1"),
        (lambda: PPool(2, padding=2), "padding=2: expected at most half of kernel_size=2"),
        (lambda: PPool(2, padding=-1), "padding=-1: expected a whole number of at least 0"),
        (lambda: PPool(2, dilation=0), "dilation=0"),
        (lambda: PPool(2, dims=4), "dims=4: expected 1, 2 or 3"),
        (lambda: PPool(2, alpha=-1), "alpha=-1: expected a number at least 0"),
        (lambda: PPool(2, alpha=float("nan")), "alpha=nan: expected a number at least 0"),
        (lambda: PPool(2, mode="chanel"), r"mode='chanel': expected one of .*; did you mean 'channel'\?"),
        (lambda: PPool(2, mode="channel"), "channels=None: expected how many channels there are, for mode='channel'"),
        (lambda: PPool(2, mode="layer", alpha=0.5), "alpha=0.5: expected 1 to 110, alpha_range, as it is learned"),
        (lambda: PPool(2, mode="layer", alpha_range=(5, 1)), r"alpha_range=\(5, 1\): expected two finite numbers"),
        (lambda: PPool(2, mode="layer", alpha_range=(-1, 5)), "the first at least 0"),
        (lambda: PPool(2, mode="predicted", channels=2, scale=0), "scale=0: expected a positive number"),
        (lambda: PPool(2, negative="clip"), "negative='clip': expected one of shift, refuse, trust"),
        (lambda: LpPool(2, power=0), "power=0: expected a number above 0"),
        (lambda: LpPool(2, mode="layer", power_range=(0, 9)), "the first above 0"),
        (lambda: LpPool(2, negative="shift"), "negative='shift': expected one of refuse, trust"),
        (lambda: DPP(2, channels=0), "channels=0: expected how many channels there are, for its parameters"),
        (lambda: DPP(2, channels=2, form="ful"), "form='ful': expected one of lite, full; did you mean 'full'"),
        (lambda: GatedPool(2, channels=0), "channels=0: expected how many channels there are"),
        (lambda: PPool(2)(torch.zeros(3, 4)), r"PPool: x \(3, 4\) of torch.float32: expected floats"),
        (lambda: PPool(2)(torch.zeros(1, 3, 4, 4, dtype=torch.int32)), "of torch.int32: expected floats"),
        (
            lambda: PPool(5)(torch.zeros(1, 3, 4, 4)),
            r"PPool: x \(4, 4\): expected sizes a window of \[5, 5\] fits into",
        ),
        (lambda: DPP(2, channels=2)(torch.zeros(1, 3, 4, 4)), r"DPP: expected 2 channels, got x \(1, 3, 4, 4\)"),
    ],
)
def test_mistakes_are_one_line(build: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_all_public_names_say_what_they_do() -> None:
    assert sorted(pooling.__all__) == sorted(name for name in vars(pooling) if not name.startswith("_"))
    assert all((getattr(pooling, name).__doc__ or "").strip() for name in pooling.__all__)
