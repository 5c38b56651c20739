"""A slim module is like the full one in all but its widths: formats, dtypes, gradients, hooks, numbers others read."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import ranp


class Encoder(nn.Module):
    """Says how wide its result is, for whoever builds a head on it."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, padding=1)
        self.output_channels = [width, 2 * width]
        self.num_features = 2 * width
        self.kernel_size = width  # a number alike, and no width

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.last(self.first(x).relu()).relu()


class Net(nn.Module):
    """An encoder, a linear head whose length was computed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder()
        self.flat_features = 16 * 8 * 8
        self.head = nn.Linear(self.flat_features, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.head(self.encoder(x).flatten(1))


EXAMPLE = torch.zeros(1, 1, 8, 8)


def pruned(net: nn.Module, example: Tensor = EXAMPLE) -> ranp.Result:
    return ranp.prune(net, example, method="l1", sparsity=0.4)


def test_numbers_that_others_read_follow() -> None:
    net = Net()
    result = pruned(net)
    encoder = result.slim.encoder
    assert encoder.output_channels == [encoder.first.out_channels, encoder.last.out_channels] != [8, 16]
    assert encoder.num_features == encoder.last.out_channels
    assert result.slim.flat_features == result.slim.head.in_features != 1024
    assert encoder.kernel_size == 8
    assert (net.encoder.output_channels, net.flat_features) == ([8, 16], 1024)
    assert not any(note.startswith("stale") for note in result.report.notes)


class Unlike(Net):
    """Two layers of one width that come out unlike."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_dim = 16
        self.before = nn.Conv2d(1, 16, 1)
        self.after = nn.Conv2d(16, 1, 1)
        with torch.no_grad():
            self.before.weight[2:] *= 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return super().forward(self.after(self.before(x)))


class AlsoASize(Net):
    """A number with the name of a width that the forward takes for a size."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return super().forward(nn.functional.interpolate(x, size=(self.width, self.width)))


@pytest.mark.parametrize("name", ["hidden_size", "embed_size", "n_features", "out_channels"])
@pytest.mark.parametrize("other", ["patch_size", "kernel_size", "image_size"])
def test_sizes_of_features_are_widths_and_others_are_not(name: str, other: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    body = nn.Sequential(net[0])
    setattr(body, name, 8)
    setattr(body, other, 8)
    slim = pruned(nn.Sequential(body, *net[1:]), torch.zeros(1, 1, 8, 8)).slim
    assert getattr(slim[0], name) == slim[0][0].out_channels < 8
    assert getattr(slim[0], other) == 8


@pytest.mark.parametrize(("kind", "name", "number"), [(Unlike, "hidden_dim", 16), (AlsoASize, "width", 8)])
def test_a_number_that_can_not_follow_is_said_to_be_stale(kind: type[nn.Module], name: str, number: int) -> None:
    result = pruned(kind())
    assert getattr(result.slim, name) == number
    assert result.report.verify.passed
    (note,) = (note for note in result.report.notes if note.startswith("stale in the slim network"))
    assert f"{name} = {number}" in note


@pytest.mark.parametrize(("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_memory_format_is_kept(dims: int, layout: torch.memory_format) -> None:
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    net = nn.Sequential(conv(2, 8, 3, padding=1), nn.ReLU(), conv(8, 8, 3, padding=1), conv(8, 2, 1))
    net = net.to(memory_format=layout)
    slim = pruned(net, torch.zeros(1, 2, *[6] * dims)).slim
    for layer in (slim[0], slim[2]):
        assert layer.weight.is_contiguous(memory_format=layout)
        assert not layer.weight.is_contiguous()
    assert slim[3].weight.is_contiguous(memory_format=layout)
    plain = pruned(nn.Sequential(conv(2, 8, 3), nn.ReLU(), conv(8, 2, 3)), torch.zeros(1, 2, *[6] * dims)).slim
    assert all(parameter.is_contiguous() for parameter in plain.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_and_frozen_parameters_are_kept(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3))
    net.to(dtype)[0].requires_grad_(False)
    slim = pruned(net, EXAMPLE.to(dtype)).slim
    assert {each.dtype for each in slim.parameters()} == {dtype}
    assert slim[1].num_batches_tracked.dtype == torch.long
    assert [each.requires_grad for each in slim.parameters()] == [each.requires_grad for each in net.parameters()]


def test_hooks_and_marks_of_parameters_and_modules_are_kept() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    seen: list[str] = []
    net[0].register_forward_hook(lambda *_: seen.append("forward"))
    net[2].register_full_backward_hook(lambda *_: seen.append("backward"))
    net[2].weight.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
    net[2].bias.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))
    net[2].bias.no_decay = True
    slim = pruned(net).slim
    seen.clear()
    slim(torch.ones(1, 1, 8, 8)).sum().backward()
    assert sorted(seen) == ["accumulated", "backward", "forward"]
    assert slim[2].weight.grad.abs().max() <= 1e-3
    assert slim[2].bias.no_decay is True
    assert net[2].weight.grad is None


class Keeping(nn.Module):
    """A hook keeps features in a dict that the forward reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.kept = kept = {}
        self.a.register_forward_hook(lambda module, args, out: kept.update(a=out))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        out = self.b(self.a(x).relu())
        return self.head(out + self.kept["a"])


def test_what_a_hook_keeps_for_the_forward_is_the_slim_networks_own() -> None:
    net = Keeping()
    result = pruned(net)
    assert result.report.verify.passed
    result.slim(EXAMPLE)
    assert result.slim.kept["a"].shape[1] == result.slim.a.out_channels < 8
    assert net.kept == {}


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrisations_are_kept(wrap: object) -> None:
    assert callable(wrap)
    net = nn.Sequential(wrap(nn.Conv2d(1, 8, 3)), nn.ReLU(), wrap(nn.Conv2d(8, 8, 3)), nn.Conv2d(8, 2, 1))
    result = pruned(net)
    for layer in (result.slim[0], result.slim[2]):
        assert nn.utils.parametrize.is_parametrized(layer, "weight")
        assert layer.weight.shape[0] == layer.out_channels
    assert result.slim[2].in_channels == result.slim[0].out_channels < 8
    assert result.report.verify.passed
