"""Tracing in several threads leaves PyTorch as it was, and each thread gets its own graph."""

import gc
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.cost import peak_training_memory
from ranp.graph import _run as run


class Straight(torch.autograd.Function):
    """Rounds, and lets gradients pass."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


class Rounding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, width, 3), nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(Straight.apply(self.a(x)))


def gradient() -> float:
    return float(torch.func.grad(lambda x: Straight.apply(x) * 1.0)(torch.tensor(1.3)))


@pytest.mark.parametrize("first_in_first_out", [True, False])
def test_interleaved_runs_put_apply_back(first_in_first_out: bool) -> None:
    before = torch.autograd.Function.__dict__["apply"]
    entered, leave = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]
    seen: list[float] = []

    def work(number: int) -> None:
        with run._plain_functions():
            entered[number].set()
            leave[number].wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for number, thread in enumerate(threads):
        thread.start()
        entered[number].wait()
    seen.append(gradient())  # a thread that runs none is left alone meanwhile
    for number in (0, 1) if first_in_first_out else (1, 0):
        leave[number].set()
        threads[number].join()
        seen.append(gradient())
    assert torch.autograd.Function.__dict__["apply"] is before
    assert seen == [1.0] * 3


def test_nested_runs_and_errors_put_apply_back() -> None:
    before = torch.autograd.Function.__dict__["apply"]

    def stop() -> None:
        with run._plain_functions():
            with run._plain_functions():
                pass
            assert torch.autograd.Function.__dict__["apply"] is not before
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert torch.autograd.Function.__dict__["apply"] is before


def test_threads_that_trace_find_what_one_finds() -> None:
    widths = [3, 4, 5, 6]
    graphs: dict[int, ranp.Graph] = {}

    def work(width: int) -> None:
        graphs[width] = ranp.trace(Rounding(width), torch.zeros(1, 1, 8, 8))

    threads = [threading.Thread(target=work, args=(width,)) for width in widths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {width: [len(g.units) for g in graphs[width].groups] for width in widths} == {w: [w, 2] for w in widths}
    assert gradient() == 1.0


class Traces(torch.utils.data.Dataset[list[int]]):
    """Traces a network for each sample, as code that makes smaller ones for a search would."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[int]:
        graph = ranp.trace(Rounding(3 + index), torch.zeros(1, 1, 8, 8))
        return [len(group.units) for group in graph.groups]


def test_tracing_in_a_worker_of_a_loader() -> None:
    loader = torch.utils.data.DataLoader(Traces(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert list(loader) == [[3, 2], [4, 2], [5, 2], [6, 2]]


def test_the_collector_stays_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise AssertionError("the garbage collector is the whole process's")

    monkeypatch.setattr(gc, "disable", refused)
    net, x = Rounding(3), torch.zeros(1, 1, 8, 8)
    assert len(ranp.trace(net, x).groups) == 2
    assert peak_training_memory(net, x).peak > 0


def test_a_trace_leaves_nothing_on_tensors() -> None:
    net, x = Rounding(3), torch.zeros(1, 1, 8, 8)
    before = [set(vars(each)) for each in (*net.parameters(), x)]
    ranp.trace(net, x)
    assert [set(vars(each)) for each in (*net.parameters(), x)] == before
