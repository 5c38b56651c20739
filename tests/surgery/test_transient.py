"""What a forward leaves in its module is no state; what it reads is."""

import pytest
import torch
from torch import Tensor, nn

from ranp.surgery.transient import left_behind

EXAMPLE = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, something that is kept, a head."""

    kept = frozenset[str]()

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.head(self.middle(self.conv(x), x))

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        """Keep something."""
        return x


class LastInput(Net):
    kept = frozenset({"last"})

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.last = image
        return x


class ReadAfterwards(Net):
    kept = frozenset({"features"})

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.features = x.detach()
        return x + self.features


class InABuffer(Net):
    kept = frozenset({"map"})

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("map", torch.zeros(1, 8, 6, 6), persistent=False)

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.map = x.sigmoid()
        return x * self.map


class Copied(InABuffer):
    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.map.copy_(x)
        return x * self.map


class Inside(Net):
    kept = frozenset({"part.last"})

    def __init__(self) -> None:
        super().__init__()
        self.part = LastInput()

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.part(image)
        return x


class Reading(Net):
    """Needs a value, so that it does not run on meta tensors."""

    kept = frozenset({"last"})

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.last = image
        return x if x.sum().item() > 1e9 else x + 1


class Running(Net):
    kept = frozenset[str]()

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.mean = self.mean * 0.9 + x.mean((0, 2, 3)) * 0.1
        return x - self.mean.view(1, -1, 1, 1)


class OnlyInTraining(Running):
    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        self.mean = self.mean * 0.9 + x.mean((0, 2, 3)) if self.training else x.mean((0, 2, 3))
        return x - self.mean.view(1, -1, 1, 1)


class Scale(Net):
    kept = frozenset[str]()

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(8)

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        return x * self.scale.view(1, -1, 1, 1)


class Delayed(Net):
    """Gives out what it saw before."""

    kept = frozenset[str]()

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        before, self.last = getattr(self, "last", x), x
        return x + before


class MadeOnce(Net):
    """A table of positions, and one that two values of are made together."""

    kept = frozenset({"table", "sine", "cosine"})

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        if not hasattr(self, "table"):
            self.table = torch.linspace(0, 1, x.shape[-1])
        if getattr(self, "sine", None) is None:
            self.sine, self.cosine = self.table.sin(), self.table.cos()
        return x * self.cosine + self.sine


class InEveryBlock(Net):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = MadeOnce(), nn.ModuleDict({"one": MadeOnce()})
        self.kept = {f"{path}.{name}" for path in ("one", "two.one") for name in MadeOnce.kept}

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        return self.two["one"].middle(self.one.middle(x, image), image)


class Optional(Net):
    """What the forward does without, and does not make."""

    kept = frozenset[str]()

    def __init__(self) -> None:
        super().__init__()
        self.mask: Tensor | None = torch.ones(6)

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        return x if self.mask is None else x * self.mask


class FromItsFirstInput(Net):
    kept = frozenset[str]()

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        if getattr(self, "mean", None) is None:
            self.mean = x.mean()
        return x - self.mean


class Learnt(Net):
    """Begins with zeros, and holds others by now."""

    kept = frozenset[str]()

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        first = getattr(self, "mean", None) is None
        if first:
            self.mean = torch.zeros(8)
        x = x - self.mean.view(1, -1, 1, 1)
        if first:
            self.mean = self.mean + 1
        return x


class Drawn(Net):
    kept = frozenset[str]()

    def middle(self, x: Tensor, image: Tensor) -> Tensor:
        if getattr(self, "noise", None) is None:
            self.noise = torch.randn(8)
        return x * self.noise.view(1, -1, 1, 1)


class Hooked(Net):
    """A hook keeps what a convolution of torch's own puts out."""

    kept = frozenset({"conv.last_out"})

    def __init__(self) -> None:
        super().__init__()
        self.conv.register_forward_hook(lambda module, _, out: setattr(module, "last_out", out))


class Reparametrised(Net):
    """The weight is computed from two parameters before each forward."""

    kept = frozenset[str]()

    def __init__(self) -> None:
        super().__init__()
        torch.nn.utils.weight_norm(self.conv)


KINDS = [Hooked, pytest.param(Reparametrised, marks=pytest.mark.filterwarnings("ignore:.*weight_norm"))]
KINDS += [MadeOnce, InEveryBlock, Optional, FromItsFirstInput, Learnt, Drawn]
KINDS += [LastInput, ReadAfterwards, InABuffer, Copied, Inside, Reading, Running, OnlyInTraining, Scale, Delayed]


@pytest.mark.parametrize("kind", KINDS)
def test_left_behind(kind: type[Net]) -> None:
    net = kind()
    with torch.no_grad():
        net(EXAMPLE)
    held = {name: getattr(each, "last", None) for name, each in net.named_modules()}
    assert left_behind(net, EXAMPLE) == net.kept
    assert all(getattr(each, "last", None) is held[name] for name, each in net.named_modules())
