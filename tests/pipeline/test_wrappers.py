"""Networks inside what people wrap them in: the network inside is traced and made smaller, and the report says so."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import ranp

EXAMPLE = torch.zeros(2, 1, 8, 8)
BATCHES = [(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(2, 8, 8, dtype=torch.long))]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
    )


class Lit(nn.Module):
    """A training module as Lightning's: a network, a loss, its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = network(), nn.CrossEntropyLoss(weight=torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.net(x)

    def training_step(self, batch: Any, number: int) -> Tensor:
        """Train on a batch."""
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        """Return the optimiser."""
        return torch.optim.SGD(self.parameters(), 0.1)


class LightningModule(nn.Module):
    """By its name."""


class Named(LightningModule):
    """A Lightning module that holds a compiled network and no steps."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.compile(network(), backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.model(x)


class EMA(nn.Module):
    """An average beside the network that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.online_model, self.ema_model = network(), network()
        self.register_buffer("step", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.ema_model(x)


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


WRAPPERS: dict[str, Callable[[], nn.Module]] = {
    "data parallel": lambda: nn.DataParallel(network()),
    "compiled": lambda: torch.compile(network(), backend="eager"),
    "averaged": lambda: AveragedModel(network()),
    "average of compiled": lambda: AveragedModel(torch.compile(network(), backend="eager")),
    "training module": Lit,
    "lightning": Named,
    "ema": EMA,
    "compiled data parallel": lambda: torch.compile(nn.DataParallel(network()), backend="eager"),
}


def check(wrapped: nn.Module) -> None:
    alone = ranp.prune(network(), EXAMPLE, batches=BATCHES, loss=nn.functional.cross_entropy, sparsity=0.4)
    before = copy.deepcopy(wrapped.state_dict())
    result = ranp.prune(wrapped, EXAMPLE, batches=BATCHES, loss=nn.functional.cross_entropy, sparsity=0.4)
    assert type(result.slim) is nn.Sequential
    assert result.plan.groups == alone.plan.groups
    assert all(torch.equal(a, b) for a, b in zip(result.slim.parameters(), alone.slim.parameters(), strict=True))
    said = f"{type(wrapped).__name__} is a wrapper: what is traced and made smaller is the Sequential inside"
    assert said in result.report.notes
    assert ranp.verify(wrapped, result.slim, result.plan, EXAMPLE).passed
    assert type(ranp.slim(wrapped, ranp.Plan.from_json(result.plan.to_json()))) is nn.Sequential
    assert all(torch.equal(value, before[key]) for key, value in wrapped.state_dict().items())
    result.slim(EXAMPLE).sum().backward()


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_network_inside_is_pruned(name: str) -> None:
    check(WRAPPERS[name]())


def test_the_network_inside_distributed_data_parallel_is_pruned(tmp_path: Path) -> None:
    with one_process(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(nn.parallel.DistributedDataParallel(network()))


class TwoNets(Lit):
    """A training module of two networks."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        return self.second(self.net(x))


class Schema(nn.Module):
    """A network whose only part is called as in a wrapper, which computes something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.module = network()

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.module(x - 1).softmax(1)


@pytest.mark.parametrize("kind", [TwoNets, Schema])
def test_what_computes_something_itself_stays(kind: type[nn.Module]) -> None:
    result = ranp.prune(kind(), EXAMPLE, method="l1", sparsity=0.3)
    assert type(result.slim) is kind
    assert [note for note in result.report.notes if not note.startswith("bottleneck: ")] == []
    assert result.report.verify.passed
