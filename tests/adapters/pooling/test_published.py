"""Every array of the recorded poolings, which were computed with 60 digits or window by window."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.adapters.pooling import DPP, GatedPool, LpPool, PPool
from ranp.kernels.pooling import DPP_POOL, LP_POOL, P_POOL
from ranp.kernels.windows import Windows

DATA = Path(__file__).parents[2] / "published" / "dense"
TAGS = {"k2s2p0": (2, 2, 0), "k3s2p1": (3, 2, 1), "k3s1p1": (3, 1, 1)}


def read(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays if key != "meta"}


P, LP, DETAIL = read("ppool"), read("lp_pool"), read("dpp_gated")


def square(kernel: int, stride: int, padding: int) -> Windows:
    return Windows((kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1))


def close(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-13)


def leaf(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()


@pytest.mark.parametrize("tag", TAGS)
def test_p_pooling_over_all_exponents(tag: str) -> None:
    assert len(P["alphas"]) == 9
    for i, alpha in enumerate(P["alphas"]):
        x, exponents = leaf(P["x"]), leaf(torch.full_like(P[f"y_{tag}"][i], float(alpha)))
        y = P_POOL(x, exponents, None, windows=square(*TAGS[tag]))
        y.backward(P[f"gy_{tag}"])
        close(y, P[f"y_{tag}"][i])
        close(x.grad, P[f"gx_{tag}"][i])
        close(exponents.grad, P[f"ga_{tag}"][i])
        close(PPool(*TAGS[tag], alpha=float(alpha))(P["x"]), P[f"y_{tag}"][i])


@pytest.mark.parametrize("tag", TAGS)
def test_p_pooling_with_an_exponent_for_every_window(tag: str) -> None:
    x, exponents = leaf(P["x"]), leaf(P[f"amap_{tag}"])
    y = P_POOL(x, exponents, None, windows=square(*TAGS[tag]))
    y.backward(P[f"gy_{tag}"])
    close(y, P[f"y_amap_{tag}"])
    close(x.grad, P[f"gx_amap_{tag}"])
    close(exponents.grad, P[f"ga_amap_{tag}"])


@pytest.mark.parametrize("tag", TAGS)
def test_p_pooling_from_the_maximum(tag: str) -> None:
    close(PPool(*TAGS[tag], alpha=float("inf"))(P["x"]), P[f"max_{tag}"])


@pytest.mark.parametrize("alpha", ["0", "1", "1.5", "2", "40", "inf"])
def test_zeros_and_ties(alpha: str) -> None:
    """Zeros have a gradient at 0 alone; where that by alpha is infinite, ours is that of the other elements."""
    x, exponents = leaf(P["z"]), torch.full((1, 1, 2, 3), float(alpha), dtype=torch.float64, requires_grad=True)
    y = P_POOL(x, exponents, None, windows=square(2, 2, 0))
    y.sum().backward()
    close(y, P[f"z_y_{alpha}"])
    close(x.grad, P["z_gx_1_zeroed" if alpha == "1" else f"z_gx_{alpha}"])
    assert exponents.grad is not None
    assert exponents.grad.isfinite().all()
    if alpha != "inf":
        finite = P[f"z_ga_{alpha}"].isfinite()
        close(exponents.grad[finite], P[f"z_ga_{alpha}"][finite])
        assert finite.all() == (alpha != "0")


def test_zeros_at_an_exponent_of_one_are_the_only_difference_from_the_exact_gradient() -> None:
    x, ones = leaf(P["z"]), torch.ones(1, dtype=torch.float64)
    P_POOL(x, ones, None, windows=square(2, 2, 0)).sum().backward()
    assert x.grad is not None
    above = P["z"] > 0
    close(x.grad[above], P["z_gx_1_exact"][above])
    assert (x.grad[~above] == 0).all()


def test_the_example_of_the_authors() -> None:
    x, exponents = leaf(P["author_x"]), torch.full((1, 1, 3, 3), 2.0, dtype=torch.float64, requires_grad=True)
    y = P_POOL(x, exponents, None, windows=square(2, 1, 1))
    y.sum().backward()
    close(y, P["author_y"])
    close(x.grad, P["author_gx"])
    close(exponents.grad, P["author_ga"])


def test_negative_inputs_are_shifted() -> None:
    x = leaf(P["xneg"])
    y = PPool(2, alpha=3)(x)
    y.sum().backward()
    close(x.detach().amin((2, 3), keepdim=True).clamp(max=0), P["xneg_shift"])
    close(y, P["xneg_y_a3"])
    close(x.grad, P["xneg_gx_a3"])


def test_the_side_branch() -> None:
    low, high, scale = P["sb_min_max_scale"].tolist()
    pool = PPool(3, 2, 1, mode="predicted", channels=2, alpha_range=(low, high), scale=scale).double()
    names = {"filters": "sb_w1", "slopes": "sb_prelu", "factors": "sb_w2", "bias": "sb_b2"}
    with torch.no_grad():
        for name, key in names.items():
            parameter = pool.alpha.get_parameter(name)
            parameter.copy_(P[key].reshape(parameter.shape))
    close(pool.alpha(P["sb_x"]), P["sb_alpha"])
    close(pool(P["sb_x"]), P["sb_y"])


@pytest.mark.parametrize("form", ["sum", "mean"])
@pytest.mark.parametrize(("tag", "sizes"), [("k2s2", (2, 2, 0)), ("k3s2", (3, 2, 0))])
def test_lp_pooling(form: str, tag: str, sizes: tuple[int, int, int]) -> None:
    assert len(LP["ps"]) == 8
    for i, power in enumerate(LP["ps"]):
        x, powers = leaf(LP["x"]), leaf(torch.full_like(LP[f"gy_{tag}"], float(power)))
        y = LP_POOL(x, powers, form == "mean", windows=square(*sizes))
        y.backward(LP[f"gy_{tag}"])
        close(y, LP[f"y_{form}_{tag}"][i])
        close(x.grad, LP[f"gx_{form}_{tag}"][i])
        close(powers.grad, LP[f"gp_{form}_{tag}"][i])
        close(LpPool(*sizes, power=float(power), mean=form == "mean")(LP["x"]), LP[f"y_{form}_{tag}"][i])


def test_our_lp_gradients_are_the_right_ones_and_the_papers_are_not() -> None:
    """Rows are p = 1.5, 2, 3; columns the right dx, the paper's, the right dp, the paper's."""
    x = leaf(LP["x"][:1, :1, :2, :2])
    for row, power in zip(LP["seed_formula_check"], (1.5, 2.0, 3.0), strict=True):
        powers = torch.full((1, 1, 1, 1), power, dtype=torch.float64, requires_grad=True)
        of_x, of_power = torch.autograd.grad(LP_POOL(x, powers, False, windows=square(2, 2, 0)).sum(), (x, powers))
        close(of_x.flatten(), row[:4])
        close(of_power.flatten(), row[8:9])
        assert ((of_x.flatten() - row[4:8]).abs() > 1e-3).all()
        assert ((of_power.flatten() - row[9:]).abs() > 1).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_detail_preserving_pooling(symmetric: bool) -> None:
    name = "sym" if symmetric else "asym"
    pool = DPP(2, channels=3, symmetric=symmetric).double()
    full = DPP(2, channels=3, form="full", symmetric=symmetric).double()
    with torch.no_grad():
        for each in (pool, full):
            each.log_strength.copy_(DETAIL["lam_raw"])
            each.log_offset.copy_(DETAIL["alpha_raw"])
        full.filters.copy_(DETAIL["full_filter"][:, None])
        full.bias.copy_(DETAIL["full_bias"])
    x = leaf(DETAIL["x"])
    y = pool(x)
    y.backward(DETAIL["gy"])
    close(y, DETAIL[f"{name}_lite"])
    close(x.grad, DETAIL[f"gx_{name}_lite"])
    close(pool.log_strength.grad, DETAIL[f"glam_{name}_lite"])
    close(pool.log_offset.grad, DETAIL[f"galpha_{name}_lite"])
    close(full(DETAIL["x"]), DETAIL[f"{name}_full"])
    strength, offset = (DETAIL[key].exp().reshape(1, 3, 1, 1) for key in ("lam_raw", "alpha_raw"))
    of_reference = DPP_POOL(DETAIL["x"], DETAIL["full_ref"], strength, offset, not symmetric, windows=square(2, 2, 0))
    close(of_reference, DETAIL[f"{name}_full"])


def test_the_polynomial_authors_detail_preserving_baseline() -> None:
    """Its exponent is lambda where the official one is lambda / 2, and neither is an exponential."""
    strength, offset = (DETAIL[key].reshape(1, 3, 1, 1) for key in ("wz_lam", "wz_alpha"))
    found = DPP_POOL(DETAIL["x"], None, 2 * strength, offset, True, windows=square(2, 2, 0))
    close(found, DETAIL["wz_asym_lite"])


def test_gated_pooling() -> None:
    pool, x = GatedPool(2).double(), DETAIL["x"]
    with torch.no_grad():
        pool.omega.copy_(DETAIL["gated_omega"])
    close(pool(x), DETAIL["gated"])
    largest, mean = F.max_pool2d(x, 2), F.avg_pool2d(x, 2)
    close((pool(x) - mean) / (largest - mean), DETAIL["gated_gate"])
