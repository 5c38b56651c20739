"""What several processes tell each other, and that ranp's files are the same for any number of them."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import errors_in, forked, forked_ranp, torchrun

from ranp import data, processes
from ranp.data.paired import Paired
from ranp.errors import InfeasibleError, UsageError

TINY = ("--classes", "3", "--set", "base_width=4", "--set", "depth=2", "--patch", "8")


class Odd(Exception):
    """Which can't be copied, and so not be sent."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} {two}")


def talk() -> None:
    assert (processes.started(), processes.count(), processes.rank()) == (2, 1, 0)
    assert processes.gather(3) == [3]
    with processes.together():
        rank = processes.rank()
        assert processes.count() == 2
        assert processes.is_first() == (rank == 0)
        assert processes.gather(("of", rank)) == [("of", 0), ("of", 1)]
        assert processes.mean(torch.tensor([1.0 + rank, 2.0])).tolist() == [1.5, 2.0]
        assert not processes.mean(torch.tensor(float("nan") if rank else 0.0)).isfinite()
        assert processes.share_of(4) == slice(2 * rank, 2 * rank + 2)
        the_first_makes(rank)
        each_works_alone(rank)
        parts_come_in_order(rank)
    assert processes.count() == 1
    print("well" * processes.is_first(), end="")


def the_first_makes(rank: int) -> None:
    made = []

    def making() -> str:
        made.append(1)
        return "made"

    assert processes.from_first(making) == "made"
    assert len(made) == 1 - rank

    def failing() -> None:
        raise InfeasibleError("no", closest=0.5)

    with pytest.raises(InfeasibleError) as raised:
        processes.from_first(failing)
    assert raised.value.closest == 0.5


def each_works_alone(rank: int) -> None:
    made: list[int] = []

    def alone(number: int) -> tuple[int, int]:
        assert (processes.count(), processes.rank(), processes.gather(number)) == (1, 0, [number])
        assert processes.from_first(lambda: number) == number
        made.append(number)
        if number in (3, 4) and len(numbers) > 5:
            raise InfeasibleError(f"item {number}", closest=number)
        return (number, rank)

    for numbers in ([], [0], [0, 1, 2, 3, 4]):
        made.clear()
        assert processes.each_alone(alone, numbers) == [(number, number % 2) for number in numbers]
        assert made == numbers[rank::2]
        assert processes.count() == 2
    numbers = list(range(7))
    with pytest.raises(InfeasibleError, match=r"^item 3$") as raised:
        processes.each_alone(alone, numbers)
    assert raised.value.closest == 3
    assert processes.count() == 2


def parts_come_in_order(rank: int) -> None:
    def parts(count: int, wrong: tuple[int, ...] = (), kind: type[Exception] = UsageError) -> Iterator[Any]:
        for number in range(count):
            if number in wrong and number % 2 == rank:
                raise kind("batch", number) if kind is Odd else kind(f"batch {number}")
            mine = {
                ("total", "w"): torch.full((2, 3), 1 / (number + 1), dtype=torch.float64),
                ("cancelled", "w"): torch.tensor(float(number), dtype=torch.float64),
            }
            yield mine if number % 2 == rank else processes.OTHERS

    for count in range(6):
        seen = list(processes.in_order(parts(count)))
        assert [float(part["cancelled", "w"]) for part in seen] == list(range(count))
        for number, part in enumerate(seen):
            assert torch.equal(part["total", "w"], torch.full((2, 3), 1 / (number + 1), dtype=torch.float64))
    for wrong, first in [((2,), 2), ((3,), 3), ((2, 3), 2), ((0,), 0)]:
        with pytest.raises(UsageError, match=f"^batch {first}$"):
            list(processes.in_order(parts(5, wrong)))
    said = {0: "Odd: batch 1", 1: "batch 1"}[rank]  # an error that can't be sent is told by its words
    with pytest.raises((Odd, RuntimeError), match=f"^{said}$"):
        list(processes.in_order(parts(3, (1,), Odd)))


def test_what_processes_tell_each_other(tmp_path: Path) -> None:
    code, out, err = forked(talk, cwd=tmp_path)
    assert (code, out) == (0, "well"), err


def test_one_process_does_all_items_until_one_fails() -> None:
    made: list[int] = []

    def work(number: int) -> int:
        made.append(number)
        return 10 // (3 - number)

    assert processes.each_alone(work, [0, 1, 2]) == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        processes.each_alone(work, [2, 3, 4])
    assert made == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_batch_is_the_share_of_one_process(count: int) -> None:
    numbers = list(range(5))
    shares = [list(processes.share(numbers, rank, count)) for rank in range(count)]
    for number in numbers:
        assert [share[number] for share in shares].count(number) == 1
        assert shares[number % count][number] == number
        assert [share[number] for share in shares].count(processes.OTHERS) == count - 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_draws_only_its_share(workers: int) -> None:
    drawn = []

    def sample(index: int) -> data.Source:
        drawn.append(index)
        return (torch.tensor([float(index)]),), torch.tensor(index)  # type: ignore[return-value]

    source = data.Source(sample, batches=5, batch_size=2, workers=workers)  # type: ignore[arg-type]
    whole = list(source)
    drawn.clear()
    for rank in range(3):
        part = list(processes.share(Paired(source), rank, 3))
        assert len(part) == 5
        for number, batch in enumerate(part):
            if number % 3 == rank:
                assert torch.equal(batch[0], whole[number][0])
            else:
                assert batch is processes.OTHERS
    assert workers or sorted(drawn) == list(range(10))


def test_a_batch_is_divided_evenly_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_joined", True)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert processes.share_of(8) == slice(4, 6)
    for size in (6, 2, 0):
        with pytest.raises(UsageError, match=f"batch_size={size}: expected a multiple of 4, the number of processes"):
            processes.share_of(size)


def test_a_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.own_device("cuda") == "cuda"
    monkeypatch.setattr(processes, "_joined", True)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert processes.own_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="device='cuda:0': 2 processes need a GPU each; expected cuda"):
        processes.own_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="device='cuda': 2 processes need a GPU each, and there are 1"):
        processes.own_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    assert processes.own_device("cuda") == "cuda:1"


def test_a_plan_is_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    words = ["prune", "unet3d", *TINY, "--batches", "5", "--sparsity", "0.4", "--method", "mnmg"]
    for count in (1, 2, 3):
        code, out, err = forked_ranp(*words, "--out", count, cwd=tmp_path, count=count)
        assert code == 0, err
        assert out.count("units:") == 1, "the first process alone prints"
        assert err.count("step: score") == 1
        for name in ("plan.json", "slim.safetensors"):
            assert (tmp_path / f"{count}" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]


LOADER = """
import os, signal
import torch

def dropping(dropout: float = 0.5):
    return torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
                               torch.nn.Dropout(dropout), torch.nn.Conv2d(6, 3, 1))

class Drawn:
    def __init__(self, bad=None, dies=None):
        self.bad, self.dies = bad, dies

    def __iter__(self):
        for number in range(5):
            if self.dies == number and os.environ.get("RANK") == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            image = torch.randn(2, 1, 8, 8)
            yield image * (float("nan") if self.bad == number else 1), torch.randint(0, 3, (2, 6, 6))

def drawn():
    return Drawn()

def bad():
    return Drawn(bad=3)

def dying():
    return Drawn(dies=3)
"""


def test_a_comparison_is_the_same_where_all_is_drawn_from_the_global_generator(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOADER)
    words = ["compare", "own.py:dropping", "--data", "own.py:drawn", "--patch", "8x8", "--sparsity", "0.3"]
    for count in (1, 2):
        code, _, err = forked_ranp(*words, "--out", f"{count}.json", cwd=tmp_path, count=count)
        assert code == 0, err
    one, two = ((tmp_path / f"{count}.json").read_text() for count in (1, 2))

    def timeless(text: str) -> list[str]:
        lines = text.splitlines()
        began = next(number for number, line in enumerate(lines) if '"seconds"' in line)
        return [line for line in lines[:began] if '"out"' not in line]

    assert timeless(one) == timeless(two)
    assert len(timeless(one)) > 50


def test_torchrun_leaves_the_run_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOADER)
    words = ["prune", "own.py:dropping", "--data", "own.py:drawn", "--patch", "8x8", "--sparsity", "0.3", "--out"]
    code, out, err = torchrun(*words, "two", cwd=tmp_path)
    assert code == 0, err
    assert out.count("wrote two") == 1
    assert errors_in(err) == []
    code, _, err = forked_ranp(*words, "one", cwd=tmp_path, count=1)
    assert code == 0, err
    for name in ("plan.json", "slim.safetensors"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_mistake_of_one_process_is_said_once_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOADER)
    words = ["prune", "own.py:dropping", "--patch", "8x8", "--sparsity", "0.3", "--out", "run"]
    code, out, err = forked_ranp(*words, "--data", "own.py:bad", cwd=tmp_path)
    assert (code, out) == (1, "")
    assert errors_in(err) == ["error: batch 4: the inputs hold NaN or infinite values"]
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["own.py"]
    code, out, err = forked_ranp("verify", "run", cwd=tmp_path)
    assert errors_in(err) == ["error: verify: works in one process; start it without torchrun"]


def test_a_killed_process_ends_all_with_a_line_and_no_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOADER)
    words = ["prune", "own.py:dropping", "--patch", "8x8", "--sparsity", "0.3", "--out", "run"]
    code, out, err = forked_ranp(*words, "--data", "own.py:dying", cwd=tmp_path)
    assert (code, out) == (1, "")
    assert len(errors_in(err)) == 1, err
    assert errors_in(err)[0].startswith("error: another process of this run has ended, and all end with it")
    assert f"exitcode  : {-signal.SIGKILL} " in err
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["own.py"]
    assert not any(name.startswith("RANK") for name in os.environ)


def test_a_network_is_trained_in_two_processes_and_goes_on_in_them(tmp_path: Path) -> None:
    words = ["train", "unet3d", *TINY, "--batch-size", "2", "--steps", "4", "--out", "run"]
    code, out, err = forked_ranp(*words, cwd=tmp_path)
    assert code == 0, err
    assert out.count("wrote") == 1
    said = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (said["done"], said["steps"], len(said["curve"])) == (True, 4, 4)
    trained = (tmp_path / "run" / "trained.safetensors").read_bytes()
    code, out, err = forked_ranp(*words, "--resume", cwd=tmp_path)
    assert code == 0, err
    assert (tmp_path / "run" / "trained.safetensors").read_bytes() == trained
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    code, _, err = forked_ranp(*words[:-1], "other", "--batch-size", "3", cwd=tmp_path)
    assert errors_in(err) == ["error: --batch-size 3: expected a multiple of 2, the number of processes"]


def test_rounds_in_two_processes_are_those_of_one_plan(tmp_path: Path) -> None:
    """What is scored is shared, so that the first round has the same plan; each has the trained weights to prune."""
    words = ["train", "unet3d", *TINY, "--batch-size", "2", "--steps", "1", "--rounds", "2", "--sparsity"]
    code, out, err = forked_ranp(*words, "0.4", "--out", "run", cwd=tmp_path)
    assert code == 0, err
    assert out.count("wrote") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    said = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [each["round"] for each in said["rounds"]] == [1, 2]
    assert forked_ranp("verify", "run", cwd=tmp_path, count=1)[0] == 0
    code, _, err = forked_ranp(*words, "0.4", "--out", "alone", cwd=tmp_path, count=1)
    assert code == 0, err
    alone = json.loads((tmp_path / "alone" / "training.json").read_text())
    both = zip(said["rounds"][:1], alone["rounds"][:1], strict=True)
    assert all(one[name] == other[name] for one, other in both for name in ("sparsity", "params", "flops"))
