"""kill -9 at random moments of a prune: the run is the old one or the new one, whole.

One process imports everything and forks; each child prunes and saves over the same folder and is killed, half of them
while they write. The forks keep 50 kills affordable.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ranp import runs
from ranp.files import whole_file, whole_folder

KILLS = 50

WORKER = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    import ranp
    from ranp import models, runs

    run, kills = Path(sys.argv[1]), int(sys.argv[2])
    config = {"model": "unet3d", "settings": {"base_width": 4, "depth": 2, "classes": 2}}

    def prune(seed, began):
        model = models.build("unet3d", seed=seed, **config["settings"])
        result = ranp.prune(model, torch.zeros(1, 1, 8, 8, 8), sparsity=0.3, method="l1")
        os.write(began, b"w")
        runs.save(run, result.slim, result.plan, {"seed": seed}, config, force=True)

    start = time.perf_counter()
    prune(0, os.open(os.devnull, os.O_WRONLY))
    whole = time.perf_counter() - start
    draw = random.Random(0)
    for kill in range(1, kills + 1):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            prune(kill, write)
            os._exit(0)
        if kill % 2:
            os.read(read, 1)
            time.sleep(draw.uniform(0, 0.05))
        else:
            time.sleep(draw.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read), os.close(write)
        runs.load(run)
        print(runs.read(run).values["seed"], flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_kill_leaves_the_old_run_or_the_new_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(run), str(KILLS)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seeds = [int(line) for line in done.stdout.split()]
    assert len(seeds) == KILLS
    # Each time the folder is the last whole one: of this child, or what was there before.
    assert all(seed in (before, kill) for kill, (before, seed) in enumerate(zip([0, *seeds], seeds, strict=False), 1))
    assert json.loads((run / "report.json").read_text())["seed"] == seeds[-1]
    assert runs.load(run) is not None


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
