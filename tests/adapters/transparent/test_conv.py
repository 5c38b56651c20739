import pytest
import torch
from torch import Tensor

from ranp.adapters.transparent._conv import TransparentConv
from ranp.errors import UsageError

SIZES = (9, 8, 10)
CASES = [(1, 5), (2, 3), (2, (5, 3)), (3, 3)]


def image(channels: int, dims: int) -> Tensor:
    return torch.randn(2, channels, *SIZES[:dims], generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("dims", "kernel"), CASES)
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "sigmoid"])
def test_full_padding_is_exact_everywhere(dims: int, kernel: int | tuple[int, ...], activation: str | None) -> None:
    x = image(4, dims)
    pair = TransparentConv(4, 11, kernel, dims, activation, dtype=torch.float64)
    torch.testing.assert_close(pair(x), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dims", "kernel"), CASES)
def test_same_padding_is_exact_but_for_the_stated_border(dims: int, kernel: int | tuple[int, ...]) -> None:
    x = image(4, dims)
    error = (TransparentConv(4, None, kernel, dims, padding="same", dtype=torch.float64)(x) - x).abs()
    radius = [k // 2 for k in ((kernel,) * dims if isinstance(kernel, int) else kernel)]
    inner = (..., *(slice(r, -r) for r in radius))
    assert error[inner].max().item() < 1e-12
    assert error.max().item() > 1e-3


def test_pairs_chain() -> None:
    x = image(3, 2)
    chain = torch.nn.Sequential(*(TransparentConv(3, activation="silu", seed=s, dtype=torch.float64) for s in range(3)))
    torch.testing.assert_close(chain(x), x, atol=1e-11, rtol=0)


def test_every_weight_is_dense_and_moves() -> None:
    pair = TransparentConv(4, activation="relu", dtype=torch.float64)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    pair(10 * image(4, 2)).square().mean().backward()
    torch.optim.SGD(pair.parameters(), lr=0.1).step()
    assert all((value != before[name]).all() for name, value in pair.state_dict().items())
    assert all((value.abs() > 1e-4).double().mean().item() > 0.98 for value in before.values())


def test_float32_error_is_of_the_order_of_rounding() -> None:
    """That of the weights is the same on any machine; sums of 432 and 864 products add to it by their order."""
    x, pair = image(16, 3).float(), TransparentConv(16, dims=3)
    with torch.no_grad():
        assert (pair(x) - x).abs().max().item() < 1e-4
        assert (pair.double()(x.double()) - x).abs().max().item() < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 7}, "hidden=7: expected at least 8"),
        ({"kernel_size": 4}, "odd sizes"),
        ({"kernel_size": (3, 3, 3)}, "expected 2 odd sizes"),
        ({"dims": 4}, "dims=4"),
        ({"padding": "valid"}, "padding='valid'"),
    ],
)
def test_mistakes_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TransparentConv(4, **settings)  # type: ignore[arg-type]
