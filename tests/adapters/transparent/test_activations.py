import pytest
import torch
from torch import nn

from ranp.adapters.transparent import TransparentStack
from ranp.adapters.transparent._conv import TransparentConv
from ranp.adapters.transparent.activations import ACTIVATIONS, SeeThrough, activation_module, odd_slope
from ranp.errors import UsageError

X = torch.linspace(-30, 30, 401, dtype=torch.float64)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softplus", "logsigmoid", "gelu", "silu"])
def test_odd_part_is_linear_with_the_stated_slope(name: str) -> None:
    activation = activation_module(name)
    slope = odd_slope(activation)
    assert slope is not None
    torch.testing.assert_close(activation(X) - activation(-X), slope * X, atol=1e-8, rtol=0)


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.9])
def test_leaky_relu_divides_by_one_plus_delta_not_by_delta(slope: float) -> None:
    activation = nn.LeakyReLU(slope)
    difference = activation(X) - activation(-X)
    assert odd_slope(activation) == 1 + slope
    torch.testing.assert_close(difference / (1 + slope), X)
    assert not torch.allclose(difference / slope, X)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "arctan"])
def test_other_activations_are_seen_through(name: str) -> None:
    activation = activation_module(name)
    assert odd_slope(activation) is None
    x = X.view(1, -1)
    y, z = SeeThrough(activation)(x).chunk(2, dim=1)
    torch.testing.assert_close(y, activation(x))
    torch.testing.assert_close(y - z, x)


@pytest.mark.parametrize(
    "activation",
    [
        nn.LeakyReLU(-1.0),  # |x|: the odd part is 0
        nn.Softplus(threshold=1),  # returns x itself from 1 on
        type("Squared", (nn.ReLU,), {"forward": lambda self, x: torch.relu(x) ** 2})(),
    ],
)
def test_what_only_looks_like_a_known_activation_is_seen_through(activation: nn.Module) -> None:
    assert odd_slope(activation) is None
    x = X.view(1, 1, -1) / 10
    stack = TransparentStack(1, (4, 5), activation, dtype=torch.float64)
    torch.testing.assert_close(stack(x), x, atol=1e-9, rtol=0)
    pair = TransparentConv(1, dims=1, activation=activation, dtype=torch.float64)
    torch.testing.assert_close(pair(x), x, atol=1e-9, rtol=0)


def test_softplus_of_another_beta_keeps_its_slope() -> None:
    activation = nn.Softplus(beta=3.0)
    assert odd_slope(activation) == 1.0
    torch.testing.assert_close(activation(X) - activation(-X), X, atol=1e-8, rtol=0)


def test_a_function_may_stand_between() -> None:
    x = X.view(1, 1, -1) / 10
    for function in (torch.sin, lambda x: x.exp() / 7):
        stack = TransparentStack(1, (4, 5), function, dtype=torch.float64)
        torch.testing.assert_close(stack(x), x, atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="activation=3: expected a name, a module or a function"):
        activation_module(3)  # type: ignore[arg-type]


def test_every_name_makes_a_module() -> None:
    assert all(isinstance(activation_module(name), nn.Module) for name in ACTIVATIONS)


def test_a_module_given_is_copied_and_not_in_place() -> None:
    given = nn.ELU(inplace=True)
    copied = activation_module(given)
    assert copied is not given
    assert copied.inplace is False
    assert given.inplace is True


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        activation_module("rellu")
