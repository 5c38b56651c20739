"""Run ranp, or a script, in several processes by torchrun, as a person does."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CLEAN = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}


def launch(words: Sequence[object], *, count: int = 2, cwd: Path | None = None) -> "subprocess.Popen[str]":
    """Start torchrun on words, `-m ranp ...` or a script; each process has one thread, which is its default."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    return subprocess.Popen(
        [*command, *map(str, words)], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**CLEAN, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def torchrun(*words: object, count: int = 2, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run them to the end; return the exit code, stdout and stderr."""
    process = launch(words, count=count, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def plainly(*words: object, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run them in one process without torchrun, with one thread."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, text=True, capture_output=True, check=False,
        env={**CLEAN, "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def errors_in(stderr: str) -> list[str]:
    """Return the lines that ranp said as errors; torchrun's own report stands beside them."""
    return [line for line in stderr.splitlines() if line.startswith("error: ")]
