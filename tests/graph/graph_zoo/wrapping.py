"""Code around modules: custom autograd functions, hooks, wrappers, unusual inputs and outputs."""

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graph_zoo.case import add, network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block


class _Swish(torch.autograd.Function):
    """The old form: forward and backward share a context."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        gate = torch.sigmoid(ctx.saved_tensors[0])
        return grad * gate * (1 + ctx.saved_tensors[0] * (1 - gate))


class _Clamp(torch.autograd.Function):
    """The new form, with a straight-through gradient."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@network((2, 3, 8, 8))
class OwnFunctions(Net):
    def middle(self, x: Tensor) -> Tensor:
        return _Clamp.apply(_Swish.apply(x))  # type: ignore[no-any-return]


@network((2, 3, 8, 8))
class CheckpointedReentrant(Net):
    def __init__(self) -> None:
        super().__init__()
        self.body = block(16, 16)

    def middle(self, x: Tensor) -> Tensor:
        return x + checkpoint(self.body, x, use_reentrant=True)


@network((2, 3, 8, 8))
class HooksOverClosures(nn.Module):
    """Hooks that write into the module they were made in, which a copy must not share; a lock beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(14, 2, 1)
        self.kept: dict[str, Tensor] = {}
        self.lock = threading.Lock()
        for name in ("a", "b"):
            getattr(self, name).register_forward_hook(self._keeps(name))

    def _keeps(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.kept[name] = output

        return hook

    def forward(self, x: Tensor) -> Tensor:
        self.b(self.a(x))
        return self.head(torch.cat([self.kept["a"], self.kept["b"]], 1))


def _patched() -> nn.Module:
    """A layer whose forward was replaced by a function around the old one."""
    net = nn.Sequential(block(3, 8), block(8, 6), nn.Conv2d(6, 2, 1))
    before = net[0].forward
    net[0].forward = lambda x: before(x) * 2
    return net


add("PatchedForward", _patched, ((2, 3, 8, 8),))
add("Parallel", lambda: nn.DataParallel(nn.Sequential(block(3, 8), block(8, 6), nn.Conv2d(6, 2, 1))), ((2, 3, 8, 8),))


@network((2, 3, 8, 8), frozen=1.0)
class Scripted(Net):
    """A scripted part is one piece: what goes in and comes out of it stays."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that scripting is old
            self.body = torch.jit.script(nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1)))

    def middle(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Slots:
    __slots__ = ("logits", "more")

    def __init__(self, logits: Tensor, more: list[Tensor]) -> None:
        self.logits, self.more = logits, more


class _Attributes(dict[str, Tensor]):
    """A dict of a class of its own."""


class _Returns(nn.Module):
    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.head, self.wrap = block(3, 8), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 2, 1), wrap

    def forward(self, x: Tensor) -> Any:
        x = self.b(self.a(x))
        return self.wrap(self.head(x), x)


def _one_by_one(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    yield x
    yield y


add("ReturnsSlots", lambda: _Returns(lambda x, y: _Slots(x, [y])), ((2, 3, 8, 8),))
add("ReturnsOwnDict", lambda: _Returns(lambda x, y: _Attributes(logits=x, features=y)), ((2, 3, 8, 8),))
add("ReturnsGenerator", lambda: _Returns(_one_by_one), ((2, 3, 8, 8),))


class _Optional(nn.Module):
    """Inputs that may be missing, and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c, self.head = block(3, 8), nn.Linear(4, 8), nn.Conv2d(8, 2, 1)

    def forward(
        self, image: Tensor, condition: Tensor | None = None, mask: Tensor | None = None, scale: float = 1.0
    ) -> Tensor:
        x = self.a(image) * scale
        if condition is not None:
            x = x + self.c(condition)[:, :, None, None]
        return self.head(x if mask is None else x * mask)


add("NoneByPlace", _Optional, ((2, 3, 8, 8), None, (2, 1, 8, 8), 0.5))
add("NoneByName", _Optional, {"image": (2, 3, 8, 8), "condition": (2, 4), "mask": None, "scale": 2})


class _Several(nn.Module):
    """A list of images as one input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = block(3, 8), nn.Conv2d(8, 2, 1)

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [self.head(F.max_pool2d(self.a(image), 2)) for image in images]


add("ListOfInputs", _Several, ([(2, 3, 8, 8), (1, 3, 16, 16)],))
add(
    "ProjectedLSTM",
    lambda: _Sequence(nn.LSTM(8, 12, proj_size=6, batch_first=True)),
    ((2, 3, 8, 8),),
)


class _Sequence(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.stem, self.rnn, self.out = block(3, 8), rnn, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.stem(x).mean(2).transpose(1, 2))[0].mean(1))
