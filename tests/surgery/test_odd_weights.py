"""Weights that are no plain parameter of their layer prune from end to end: mixed, generated, complex, scripted."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ranp
from ranp.errors import CheckFailed

INPUT = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [(INPUT, torch.arange(128).reshape(2, 8, 8) % 2)]


class Net(nn.Module):
    """A stem of 16 channels and a head that reads 12; what lies between is the point."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x)))

    def middle(self, x: Tensor) -> Tensor:
        raise AssertionError("made by each network")


class Mixed(Net):
    """One filter, mixed from four."""

    def __init__(self) -> None:
        super().__init__()
        self.share, self.filters = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4, 12, 16, 3, 3) / 10)

    def middle(self, x: Tensor) -> Tensor:
        return F.conv2d(x, (self.filters * self.share.softmax(0).view(-1, 1, 1, 1, 1)).sum(0), padding=1)


class Generated(Net):
    """A filter made by a linear layer from a code."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.make = nn.Parameter(torch.randn(5)), nn.Linear(5, 12 * 16 * 9)

    def middle(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.make(self.code).view(12, 16, 3, 3), padding=1)


class Spectral(Net):
    """Complex weights on the low frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 12, 3, 3, dtype=torch.cfloat) / 10)

    def middle(self, x: Tensor) -> Tensor:
        waves = torch.fft.rfft2(x)
        out = torch.zeros(x.shape[0], 12, *waves.shape[2:], dtype=waves.dtype)
        out[:, :, :3, :3] = torch.einsum("bixy,ioxy->boxy", waves[:, :, :3, :3], self.weight.to(waves.dtype))
        return torch.fft.irfft2(out, s=x.shape[2:])


class Rotated(Net):
    """A complex factor for each channel of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.turn = nn.Conv2d(16, 12, 1), nn.Parameter(torch.randn(12, dtype=torch.cfloat))

    def middle(self, x: Tensor) -> Tensor:
        return (self.conv(x) * self.turn[:, None, None]).abs()


class Scripted(Net):
    """A part that is TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which users still have
            self.part = torch.jit.script(nn.Sequential(nn.Conv2d(16, 12, 1), nn.ReLU()))

    def middle(self, x: Tensor) -> Tensor:
        return self.part(x)


def built(kind: type[Net]) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind()


@pytest.mark.parametrize("method", ["l1", "mpmg", "mnmg", "snip"])
@pytest.mark.parametrize("kind", [Mixed, Generated, Spectral, Rotated, Scripted])
@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning", "ignore:.*count as the mean:UserWarning")
def test_it_prunes_and_is_proved(kind: type[Net], method: str) -> None:
    rule = "snip" if method == "snip" else "global"
    result = ranp.prune(
        built(kind), INPUT, sparsity=0.3, method=method, rule=rule, batches=BATCHES, loss=F.cross_entropy,
        allow_less=True,  # of some nothing can go
    )  # fmt: skip
    assert result.report.verify["max_rel_diff"] < 1e-9
    assert result.slim(INPUT).shape == (2, 2, 8, 8)
    if kind in (Mixed, Rotated) and method != "snip":  # there a neuron stays while one of its elements does
        assert result.report.units["kept"] < result.report.units["total"]


def test_a_mixed_filter_is_scored_by_all_it_is_mixed_from() -> None:
    net = built(Mixed)
    scores = ranp.importance(net, ranp.trace(net, INPUT), method="l1")
    expected = net.filters.detach().double().abs().sum((0, 2, 3, 4))
    torch.testing.assert_close(torch.from_numpy(scores.neurons["filters"]), expected)


def test_both_parts_of_a_complex_weight_share_one_mask() -> None:
    net = built(Spectral)
    scores = ranp.importance(net, ranp.trace(net, INPUT), BATCHES, F.cross_entropy, method="snip")
    mask, weight = torch.ones(16, 12, 3, 3, requires_grad=True), net.weight.detach().clone()
    del net.weight
    net.weight = weight * mask
    F.cross_entropy(net.train()(INPUT), BATCHES[0][1]).backward()
    assert mask.grad is not None
    torch.testing.assert_close(torch.from_numpy(scores.elements["weight"]), mask.grad.abs(), rtol=1e-4, atol=1e-7)


def test_a_generated_filter_says_that_it_counts_as_the_mean() -> None:
    net = built(Generated)
    with pytest.warns(UserWarning, match=r"make\.weight, which has no part for each neuron"):
        scores = ranp.importance(net, ranp.trace(net, INPUT), method="l1")
    others = torch.cat([torch.from_numpy(scores.neurons[name]) for name in ("stem.0.weight", "head.weight")])
    assert scores.neurons["make.weight"] == pytest.approx(float(others.mean()))


def test_a_network_that_stops_in_the_proof_says_so_in_one_line() -> None:
    net = built(Mixed)
    result = ranp.prune(net, INPUT, sparsity=0.3, method="l1")

    class Broken(Mixed):
        def middle(self, x: Tensor) -> Tensor:
            raise RuntimeError("no\nway")

    slim = result.slim
    slim.__class__ = Broken
    with pytest.raises(CheckFailed, match=r"the slim network does not run: .*RuntimeError: no way"):
        ranp.verify(net, slim, result.plan, INPUT)
