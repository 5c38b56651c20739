import copy

import pytest
import torch
from torch import Tensor, nn

from ranp.adapters.transparent import TransparentStack, insert_transparent
from ranp.adapters.transparent.activations import ACTIVATIONS
from ranp.errors import UsageError

SHAPES = [(7, 5), (2, 5, 11), (2, 5, 6, 7), (2, 5, 3, 4, 5), (2, 5, 2, 3, 2, 3)]


def uniform(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(*shape, generator=generator, dtype=dtype) * 2 - 1) * scale


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_identity_at_first_over_every_number_of_dims(shape: tuple[int, ...], activation: str | None) -> None:
    x = uniform(*shape, scale=3, dtype=torch.float64)
    stack = TransparentStack(5, (9, 6, 8), activation, dtype=torch.float64)
    torch.testing.assert_close(stack(x), x, atol=1e-11, rtol=0)


@pytest.mark.parametrize("init", ["orthonormal", "gaussian"])
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh"])
def test_identity_for_user_modules_and_one_hidden_layer(init: str, activation: str | None) -> None:
    x = uniform(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(TransparentStack(4, (4,), activation, init=init, dtype=torch.float64)(x), x)


def test_any_elementwise_module_may_stand_between() -> None:
    x = uniform(3, 4, 5, dtype=torch.float64)
    for module in (nn.ELU(inplace=True), nn.LeakyReLU(0.3), nn.Hardtanh(), nn.PReLU(dtype=torch.float64)):
        torch.testing.assert_close(TransparentStack(4, (6, 6), module, dtype=torch.float64)(x), x)


def test_channel_dim_may_be_anywhere() -> None:
    x = uniform(2, 3, 4, 5, dtype=torch.float64)
    for channel_dim in (0, 1, 2, 3, -1, -2):
        stack = TransparentStack(x.shape[channel_dim], (8, 8), "tanh", channel_dim, dtype=torch.float64)
        torch.testing.assert_close(stack(x), x)


def test_pointwise_agrees_with_linear_over_the_last_dimension() -> None:
    stack = TransparentStack(3, (5,), "relu", init="xavier")
    x = uniform(2, 3, 4, 5)
    first, second = stack.layers
    by_hand = torch.relu(x.movedim(1, -1) @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(stack(x), by_hand.movedim(-1, 1))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_table_of_recovery(activation: str | None) -> None:
    """Of weights in float32; their sums are taken in float64, so that no order of them counts."""
    x = uniform(1, 42, 96, 96, scale=10).double()
    recovered, nonzero = {}, {}
    for init in ("orthonormal", "gaussian", "net2net", "xavier", "random"):
        stack = TransparentStack(42, (64, 64), activation, init=init).double()
        with torch.no_grad():
            recovered[init] = ((stack(x) - x).abs() < 1e-4).double().mean().item()
        nonzero[init] = (torch.cat([p.flatten() for p in stack.parameters()]).abs() > 1e-4).double().mean().item()
    assert recovered["orthonormal"] == recovered["gaussian"] == 1.0
    assert recovered["net2net"] == (1.0 if activation is None else pytest.approx(0.5, abs=0.005))
    assert max(recovered["xavier"], recovered["random"]) < 0.001
    assert min(nonzero["orthonormal"], nonzero["gaussian"]) > 0.9985
    assert 0.0225 < nonzero["net2net"] < 0.0240


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(("scale", "limit"), [(1, 5e-7), (10, 1.5e-6), (100, 1.5e-5), (1000, 1.5e-4)])
def test_largest_error_in_float32(activation: str | None, scale: float, limit: float) -> None:
    """The limit is for what the rounded weights cost on any machine; three sums of 64 add to it by their order."""
    x, stack = uniform(1, 42, 128, 128, scale=scale), TransparentStack(42, (64, 64), activation)
    with torch.no_grad():
        assert (stack(x) - x).abs().max().item() < 100 * limit
        assert (stack.double()(x.double()) - x).abs().max().item() < limit


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_every_weight_moves_in_one_step(activation: str | None) -> None:
    stack = TransparentStack(5, (8, 8), activation, dtype=torch.float64)
    before = copy.deepcopy(stack.state_dict())
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    stack(uniform(2, 5, 16, 16, scale=10, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    assert all((value != before[name]).all() for name, value in stack.state_dict().items())


def test_no_entry_is_shared() -> None:
    stack = TransparentStack(3, (4, 4), "relu")
    assert [tuple(layer.weight.shape) for layer in stack.layers] == [(8, 3), (8, 8), (3, 8)]
    assert len({p.data_ptr() for p in stack.parameters()}) == 6


def test_building_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    TransparentStack(3, (4, 4), "relu", init="xavier")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("widths", [(), (4, 64), (64, 4)])
def test_widths_below_the_input_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="widths="):
        TransparentStack(5, widths)


def test_input_with_other_channels_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected 5 channels in dimension 1, received shape \(2, 4, 3\)"):
        TransparentStack(5)(torch.zeros(2, 4, 3))
    with pytest.raises(UsageError, match="channel_dim=3"):
        TransparentStack(5, channel_dim=3)(torch.zeros(2, 5))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("after", ["", "head", "body", "body.0", "body.2"])
def test_insertion_changes_nothing_anywhere(after: str) -> None:
    model = Net().double().eval()
    x = uniform(2, 1, 8, 8, dtype=torch.float64)
    names = list(model.state_dict())
    inserted = insert_transparent(model, after, depth=4, widths=(12, 9, 10), activation="gelu", example_inputs=x)
    torch.testing.assert_close(inserted(x), model(x), atol=1e-9, rtol=1e-9)
    assert sum(isinstance(module, TransparentStack) for module in inserted.modules()) == 1
    assert list(model.state_dict()) == names
    assert not any(module.training for module in inserted.modules())


def test_channels_are_read_off_the_module_where_it_tells_them() -> None:
    inserted = insert_transparent(Net(), "head")
    assert inserted.get_submodule("head.transparent").layers[0].weight.shape == (64, 3)


@pytest.mark.parametrize(("after", "channels"), [("body", 6), ("body.2", 6), ("", 3)])
def test_channels_are_counted_where_the_module_does_not_tell_them(after: str, channels: int) -> None:
    inserted = insert_transparent(Net(), after)
    stack = next(module for module in inserted.modules() if isinstance(module, TransparentStack))
    assert [layer.weight.shape for layer in stack.layers] == [(64, channels), (64, 64), (channels, 64)]


def test_channels_nobody_can_tell_are_asked_for() -> None:
    for model in (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten())):
        with pytest.raises(UsageError, match="give channels= or example_inputs="):
            insert_transparent(model, "")
    with pytest.raises(UsageError, match="channel_dim=4"):
        insert_transparent(Net(), "head", channel_dim=4, example_inputs=uniform(1, 1, 8, 8))


def test_a_module_of_two_names_is_followed_under_both() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))  # type: ignore[no-any-return]

    for after in ("first", "second"):
        inserted = insert_transparent(Tied(), after)
        assert inserted.get_submodule("first") is inserted.get_submodule("second")
        assert isinstance(inserted.get_submodule("first.transparent"), TransparentStack)


def test_attributes_of_the_followed_module_stay_readable() -> None:
    head = insert_transparent(Net(), "head").get_submodule("head")
    assert head.kernel_size == (1, 1)
    with pytest.raises(AttributeError, match="nothing"):
        head.nothing  # noqa: B018


def test_bias_scale_follows_the_values_seen() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net().eval()
    with torch.no_grad():
        model.head.weight.mul_(1e-3)
        model.head.bias.zero_()
    x = uniform(2, 1, 8, 8)
    inserted = insert_transparent(model, "head", example_inputs=x)
    assert inserted.get_submodule("head.transparent").layers[0].bias.abs().max().item() < 0.1
    inserted, model, x = inserted.double(), model.double(), x.double()  # the weights' rounding alone: no sum's order
    difference = (inserted(x) - model(x)).abs().max() / model(x).abs().max()
    assert difference.item() < 1e-7


def test_mistakes_of_insertion_are_one_line() -> None:
    with pytest.raises(UsageError, match="after='haed': no such module; did you mean 'head'"):
        insert_transparent(Net(), "haed")
    with pytest.raises(UsageError, match="depth=1"):
        insert_transparent(Net(), "head", depth=1)
    with pytest.raises(UsageError, match="depth=3"):
        insert_transparent(Net(), "head", widths=(64,))
    pool = nn.Sequential(nn.MaxPool2d(2, return_indices=True))
    with pytest.raises(UsageError, match="one tensor, received tuple"):
        insert_transparent(pool, "0", example_inputs=torch.zeros(1, 3, 4, 4))
