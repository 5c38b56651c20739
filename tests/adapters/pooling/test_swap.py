"""Swapped networks: a copy, the same weights, beginning as the pools that were replaced."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.adapters.pooling import DPP, GatedPool, LpPool, PPool, param_groups, swap_pooling
from ranp.errors import UsageError


def network(dims: int = 2) -> nn.Sequential:
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    largest, mean = (
        (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dims - 1],
        (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[dims - 1],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            convolution(1, 4, 3, padding=1), largest(3, 2, 1), convolution(4, 6, 3, padding=1), mean(2), nn.ReLU()
        )


def image(dims: int = 2) -> Tensor:
    return torch.randn((2, 1, *(12, 10, 8)[:dims]), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("mode", ["fixed", "layer", "channel", "predicted"])
def test_a_p_pooling_begins_as_the_pool_it_replaces(dims: int, mode: str) -> None:
    net = network(dims).double()
    swapped = swap_pooling(net, "p", example_inputs=image(dims).double(), mode=mode)
    first, second = swapped[1], swapped[3]
    assert isinstance(first, PPool)
    assert isinstance(second, PPool)
    assert first.alpha(torch.zeros(1, 4, *[3] * dims)).unique().tolist() == [70]
    assert second.alpha(torch.zeros(1, 6, *[3] * dims)).unique().tolist() == [0]
    assert (first.channels, second.channels) == ((4, 6) if mode in ("channel", "predicted") else (None, None))
    x = image(dims).double()
    torch.testing.assert_close(swapped[3](x.repeat(1, 6, *[1] * dims)), net[3](x.repeat(1, 6, *[1] * dims)))
    expected, found = net(x), swapped(x)
    assert (found - expected).abs().mean() < 0.02 * expected.abs().max()
    assert first.negative == "shift"


def test_the_model_is_untouched_and_the_weights_are_equal() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    swapped = swap_pooling(net)
    assert [type(module) for module in net] == [nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.AvgPool2d, nn.ReLU]
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert not any(module._forward_pre_hooks for module in swapped.modules())
    assert net.state_dict().keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(net.state_dict()[name], value)
        assert torch.equal(swapped.state_dict()[name], value)
    assert swapped[0].weight.data_ptr() != net[0].weight.data_ptr()
    fixed = swap_pooling(net, mode="fixed")
    fixed.load_state_dict(before)  # nothing new in it: older checkpoints fit


@pytest.mark.parametrize(("kind", "type_"), [("p", PPool), ("dpp", DPP), ("gated", GatedPool), ("lp", LpPool)])
def test_every_kind_takes_the_geometry_dtype_and_mode_of_training(kind: str, type_: type[nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True))
    swapped = swap_pooling(net.double().eval(), kind)
    pool: Any = swapped[2]
    assert isinstance(pool, type_)
    assert (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == ((3, 2), (2, 1), (1, 0), (1, 2))
    assert pool.ceil_mode
    assert not pool.training
    assert all(parameter.dtype == torch.float64 for parameter in pool.parameters())
    x = image().double()
    assert swapped(x).shape == net(x).shape


def test_an_lp_pooling_is_a_power_mean_near_the_pool_it_replaces() -> None:
    net = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2))
    swapped = swap_pooling(net, "lp")
    assert isinstance(swapped[1], LpPool)
    assert isinstance(swapped[2], LpPool)
    assert swapped[1].power.value == 30
    torch.testing.assert_close(swapped[2](image().abs()), net[2](image().abs()))


class Twice(nn.Module):
    """One pool under two names, called for maps of different widths, and functions that are left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.parts = nn.ModuleDict({"again": self.pool})

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.pool(input=self.b(self.parts["again"](self.a(x)))), 2)


def test_a_pool_with_two_names_stays_one_pool() -> None:
    swapped = swap_pooling(Twice(), mode="layer")
    assert isinstance(swapped.pool, PPool)
    assert swapped.parts["again"] is swapped.pool
    assert swapped(image()).shape == (2, 8, 1, 1)


@pytest.mark.parametrize("kind", ["p", "dpp"])
def test_a_pool_of_several_widths_has_no_parameters_per_channel(kind: str) -> None:
    with pytest.raises(UsageError, match="pool: the network calls this pool with 4 and 8 channels") as caught:
        swap_pooling(Twice(), kind, example_inputs=image())
    assert ("mode='layer'" in str(caught.value)) == (kind == "p")
    assert "\n" not in str(caught.value)


def test_a_network_that_is_a_pool_and_only_some_of_the_pools() -> None:
    assert isinstance(swap_pooling(nn.MaxPool3d(2), mode="fixed"), PPool)
    swapped = swap_pooling(network(), only=lambda path, pool: path == "3")
    assert isinstance(swapped[1], nn.MaxPool2d)
    assert isinstance(swapped[3], PPool)


def test_segnet_by_one_exponent_a_pool() -> None:
    net = ranp.models.build("segnet", width=4, classes=3).eval()
    with pytest.raises(UsageError, match="with 4, 8, 16 and 32 channels"):
        swap_pooling(net)
    swapped = swap_pooling(net, mode="layer", alpha_range=(1, 110))
    x = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    difference = (swapped(x) - net(x)).abs().max() / net(x).abs().max()
    assert 0 < difference < 0.1
    assert swapped.pool.return_indices


class Needs(nn.Module):
    """Runs on two inputs of related sizes alone, which nobody can guess."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 4, 1), nn.MaxPool2d(2)

    def forward(self, image: Tensor, size: Tensor) -> Tensor:
        if image.shape[2] != size.shape[0]:
            raise ValueError("no")
        return self.pool(self.conv(image))


def test_example_inputs_tell_what_shapes_alone_do_not() -> None:
    with pytest.raises(UsageError, match="pool: its number of channels could not be told; give example_inputs="):
        swap_pooling(Needs())
    swapped = swap_pooling(Needs(), example_inputs=(image(), torch.zeros(12)))
    assert swapped.pool.channels == 4
    with pytest.raises(UsageError, match="example_inputs: the network does not run: ValueError: no"):
        swap_pooling(Needs(), example_inputs=(image(), torch.zeros(1)))


@pytest.mark.parametrize(
    ("model", "kind", "settings", "message"),
    [
        (network(), "q", {}, r"kind='q': expected one of p, dpp, gated, lp; did you mean|kind='q': expected one of"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "p", {}, "no max or mean pool among the modules"),
        (network(), "p", {"alfa": 3}, "swap_pooling: .*unexpected keyword argument 'alfa'"),
        (network(), "p", {"mode": "fix"}, r"mode='fix': expected one of .* did you mean 'fixed'"),
        (
            nn.AvgPool2d(2, divisor_override=3),
            "p",
            {"mode": "fixed"},
            "divisor_override=3: expected a pool that is a mean",
        ),
    ],
)
def test_mistakes_are_one_line(model: nn.Module, kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        swap_pooling(model, kind, **settings)
    assert "\n" not in str(caught.value)


def test_groups_hold_every_parameter_once_at_its_own_rate() -> None:
    net = nn.Sequential(network(), PPool(2, mode="layer"), DPP(2, channels=6, form="full"), GatedPool(2))
    net[0] = swap_pooling(net[0], "p")
    groups = param_groups(net, 0.1, 0.01)
    found = [parameter for group in groups for parameter in group["params"]]
    assert sorted(map(id, found)) == sorted(id(parameter) for parameter in net.parameters())
    rate = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    branch = net[0][1].alpha
    assert rate[id(net[0][0].weight)] == rate[id(net[3].omega)] == rate[id(net[2].filters)] == (0.1, 0.01)
    assert rate[id(branch.filters)] == rate[id(branch.factors)] == (pytest.approx(0.3), 0.01)
    assert rate[id(branch.slopes)] == (pytest.approx(30), 0)
    assert rate[id(branch.bias)] == rate[id(net[1].alpha.exponent)] == (pytest.approx(54), 0)
    assert rate[id(net[2].log_offset)] == (0.1, 0)
    torch.optim.SGD(groups)
    plain = nn.Conv2d(1, 1, 1)
    assert len(param_groups(plain, 1.0)) == 1
