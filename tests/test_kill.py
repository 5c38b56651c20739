"""kill -9 at every moment of a prune: the run is the old one or the new one, whole."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ranp
from ranp import models, runs
from ranp.files import whole_file, whole_folder

pytest.importorskip("resource", reason="needs fork and the signals of Unix")
from killing import content, every_step, killed_beyond

CONFIG = {"model": "unet3d", "settings": {"base_width": 4, "depth": 2, "classes": 2}}


def pruned(seed: int) -> ranp.Result:
    model = models.build("unet3d", seed=seed, **CONFIG["settings"])
    return ranp.prune(model, torch.zeros(1, 1, 8, 8, 8), sparsity=0.3, method="l1")


def save(run: Path, result: ranp.Result, seed: int) -> dict[str, bytes]:
    runs.save(run, result.slim, result.plan, {"seed": seed}, CONFIG, force=True)
    return content(run)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere folders change places in two renames")
def test_kill_leaves_the_old_run_or_the_new_one(tmp_path: Path) -> None:
    run, results = tmp_path / "run", (pruned(0), pruned(1))
    assert list(every_step(lambda: pruned(1))) == [0]  # it touches nothing until it saves
    old, found = save(run, results[0], 0), []
    for _ in every_step(lambda: save(run, results[1], 1)):
        found.append(content(run))
        assert runs.load(run) is not None
        assert save(run, results[0], 0) == old
        assert [each.name for each in tmp_path.iterdir()] == ["run"]  # what the killed one left is swept
    replaced = [each != old for each in found]
    assert all(each == found[-1] for each in found if each != old)  # as of the child that lived
    assert replaced == sorted(replaced)
    assert (replaced[0], replaced[-2]) == (False, True)  # killed before it began, and while it cleaned up


def test_a_kill_inside_of_a_write_leaves_the_old_run(tmp_path: Path) -> None:
    run, results = tmp_path / "run", (pruned(0), pruned(1))
    sizes = {len(data) for data in save(run, results[1], 1).values()}
    old = save(run, results[0], 0)
    for cut in sorted({cut for size in sizes for cut in (0, size // 2, size - 1)}):
        assert killed_beyond(cut, lambda: save(run, results[1], 1))
        assert content(run) == old
        assert runs.load(run) is not None
    assert not killed_beyond(max(sizes), lambda: save(run, results[1], 1))
    assert content(run) != old


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_swept(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "a.[1]"
    writes = whole_file if kind == "file" else whole_folder
    killed = f"""
import os, signal
from pathlib import Path
from ranp.files import {writes.__name__}
with {writes.__name__}(Path({str(place)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.[1].ranp-")
    with writes(place):
        pass
    assert list(tmp_path.iterdir()) == [place]
