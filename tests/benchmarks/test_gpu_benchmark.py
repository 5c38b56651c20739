"""gpu.py without a card: every step on small sizes of the CPU, and what the driver makes of steps that end badly."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("RANP_NATIVE", "auto")
    monkeypatch.setenv("RANP_GPU_WORK", str(tmp_path / "work"))
    return importlib.import_module("gpu")


def done(gpu: Any, step: Any, folder: Path) -> tuple[str, dict[str, Any]]:
    """Do a step in this process; what it asked for and has not is the result in words, else an empty one."""
    kept = gpu.Kept(folder / f"{step.name}.json")
    try:
        getattr(importlib.import_module(step.home), step.name)(torch.device("cpu"), True, kept)
    except gpu.NotRun as reason:
        return str(reason), kept
    return "", kept


def test_steps_that_check_run_on_the_cpu(gpu: Any, tmp_path: Path) -> None:
    asked = ("build", "agreement", "operators", "repeats", "autocast", "touch", "streams")
    for step in (*gpu.STEPS, *gpu.WATCHED):
        if step.name in asked:
            reason, kept = done(gpu, step, tmp_path)
            assert bool(kept) != bool(reason)
            assert reason == ("streams, graphs and a second device are a card's" if step.name == "streams" else "")
    assert json.loads((tmp_path / "agreement.json").read_text())["result"]["reassemblies"] > 0


def test_steps_that_measure_run_on_the_cpu(gpu: Any, tmp_path: Path) -> None:
    for step in gpu.STEPS:
        if step.name in ("mrf_speed", "upsampling_speed", "pooling_speed"):
            reason, kept = done(gpu, step, tmp_path)
            assert not reason
            assert all(value is None or value == value for row in kept["rows"] for value in row.values())
            assert any(isinstance(value, float) and value > 0 for row in kept["rows"] for value in row.values())
        if step.name == "profile":
            assert done(gpu, step, tmp_path)[0] == "ncu looks at a card"


@pytest.mark.data
def test_the_oracles_files_are_read_without_numpy(gpu: Any, tmp_path: Path) -> None:
    checks = importlib.import_module("gpu_checks")
    if not checks.FIXTURES.is_dir():
        pytest.skip("../shared/fixtures/mrf is absent")
    step = next(step for step in gpu.STEPS if step.name == "fixtures")
    reason, kept = done(gpu, step, tmp_path)
    assert (reason, kept["files"] > 10) == ("", True)


def test_a_wrong_result_fails_and_says_where(gpu: Any) -> None:
    checks = importlib.import_module("gpu_checks")
    right = torch.tensor([1.0, 2.0])
    checks.same("this", right, right.clone())
    assert checks.close("this", right, right + 1e-6, 1e-5) > 0
    with pytest.raises(gpu.Failed, match="that: 1 of 2 entries differ, by 1 at most"):
        checks.same("that", right, torch.tensor([1.0, 3.0]))
    for wrong in (right + 1, right * torch.nan):
        with pytest.raises(gpu.Failed, match="that: differs by"):
            checks.close("that", wrong, right, 1e-3)


def test_without_a_card_it_says_so_in_a_line_and_checks_the_emulated_kernels() -> None:
    """What `make gpu` does in CI."""
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    command = [sys.executable, str(BENCHMARKS / "gpu.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    first, second = ended.stdout.splitlines()
    assert re.fullmatch(r"no CUDA card that torch \S+ can use: the kernels are checked on emulated lanes", first)
    assert re.match(r"emulated +(passed|not run, .*no g\+\+)", second)


def test_make_has_it() -> None:
    assert re.search(r"^gpu:\n\t.*python.* benchmarks/gpu.py$", (ROOT / "Makefile").read_text(), re.MULTILINE)


STEPS = """
import atexit, gpu, os, time

def good(device, small, kept):
    kept.keep(rows=[{"what": str(device), "ms": 0.12345, "nothing": None}], texts={"words": "said"})

def absent(device, small, kept):
    import a_module_that_nobody_has

def wrong(device, small, kept):
    kept.keep(before=1)
    raise gpu.Failed("two is not three")

def broken(device, small, kept):
    raise KeyError("this")

def gone(device, small, kept):
    kept.keep(before=2)
    os._exit(7)

def late(device, small, kept):
    atexit.register(os._exit, 9)  # after its record is written, as a kernel's error may come

def ours(device, small, kept):
    import ranp.nothing

def leaves(device, small, kept):
    (gpu.work() / "left").mkdir(parents=True)

def slow(device, small, kept):
    kept.keep(before=3)
    time.sleep(600)
"""


def test_every_end_of_a_step_is_recorded_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    """With a driver of its own, so that no step imports torch: a stand-in for it is enough."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    program = (BENCHMARKS / "gpu.py").read_text()
    names = ("good", "absent", "wrong", "broken", "gone", "late", "ours", "leaves", "slow")
    steps = ", ".join(
        f'Step("{name}", "some", {2 if name == "slow" else 600}, "", False, (), "{"left" * (name == "leaves")}")'
        for name in names
    )
    start, end = program.index("STEPS = ("), program.index("EMULATED = ")
    (folder / "gpu.py").write_text(f"{program[:start]}STEPS = ({steps})\n{program[end:]}")
    (folder / "some.py").write_text(STEPS)
    (folder / "torch.py").write_text("__version__ = '1'\nclass device(str): pass\n")
    (folder / "ranp").mkdir()
    (folder / "ranp" / "__init__.py").touch()
    command = [sys.executable, str(folder / "gpu.py"), "--device", "cpu", "--results", str(tmp_path / "results")]
    work = tmp_path / "work"
    command += ["--work", str(work)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 1, ended.stderr
    (file,) = (tmp_path / "results").glob("*.json")
    records = json.loads(file.read_text())["steps"]
    told = {name: (record["state"], record["why"], record["result"].get("before")) for name, record in records.items()}
    assert told == {
        "good": ("passed", "", None),
        "absent": ("not run", "No module named 'a_module_that_nobody_has'", None),
        "wrong": ("failed", "two is not three", 1),
        "broken": ("failed", "KeyError: 'this'", None),
        "gone": ("failed", "it ended with 7: without a word", 2),
        "late": ("failed", "it ended with 9: without a word", None),
        "ours": ("failed", "ModuleNotFoundError: No module named 'ranp.nothing'", None),
        "leaves": ("passed", "", None),
        "slow": ("failed", "not ready after 2 s", told["slow"][2]),  # a busy machine may not even begin in time
    }
    assert (tmp_path / "results" / f"{file.stem}-words.txt").read_text() == "said"
    again = subprocess.run([*command, "--only", "good"], capture_output=True, text=True, env=environment, check=False)
    assert (again.returncode, again.stdout.splitlines()[-1].split()) == (0, ["good", "passed", "before"])
    for there, said in ((True, "passed before"), (False, "passed,")):  # on another machine nothing of the work is there
        if not there:
            (work / "left").rmdir()
        again = subprocess.run(
            [*command, "--only", "leaves"], capture_output=True, text=True, env=environment, check=False
        )
        assert said in " ".join(again.stdout.splitlines()[-1].split())
    late = [*command, "--only", "good", "--again", "--minutes", "0"]
    assert (
        "the time was up" in subprocess.run(late, capture_output=True, text=True, env=environment, check=False).stdout
    )


def test_the_page_says_what_the_results_say_and_nothing_else(gpu: Any) -> None:
    assert gpu.table() in gpu.PAGE.read_text()


def test_a_table_is_made_from_the_results(gpu: Any, tmp_path: Path) -> None:
    machine = {"card": "A Card", "driver": "1", "cuda": "13", "torch": "2", "python": "3"}
    row = {"method": "trwp-4", "ms": 0.123456, "compile ms": None}
    steps = {
        "mrf_speed": {"state": "passed", "why": "", "seconds": 3.0, "result": {"rows": [row]}},
        "profile": {"state": "not run", "why": "no ncu", "result": {}},
    }
    gpu.write(tmp_path / "gpu-a-card-torch2.json", {"machine": machine, "steps": steps})
    page = tmp_path / "page.md"
    page.write_text(f"before\n{gpu.MARKS[0]}\nold\n{gpu.MARKS[1]}\nafter\n")
    gpu.write_table(tmp_path, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{gpu.MARKS[1]}\nafter\n")
    assert "old" not in text
    assert "| trwp-4 | 0.123 | not run |" in text
    assert re.search(r"\| `profile` \| .* \| not run, no ncu \|", text)
    assert re.search(r"\| `build` \| .* \| not run \|", text)


def test_an_unknown_step_is_refused(gpu: Any) -> None:
    with pytest.raises(SystemExit, match="--only spead: expected build"):
        gpu.chosen(gpu.parsed(["--only", "spead"]))
