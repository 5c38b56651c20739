"""Run ranp in several processes as torchrun starts them: by its own agent, forked from this one; or by torchrun itself.

What is forked has imported all already, which takes a process of its own seconds; torchrun itself adds to the agent
what a person types, and is tried once.
"""

import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

CLEAN = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # which the agent takes for itself


def torchrun(*words: object, cwd: Path) -> tuple[int, str, str]:
    """Run `ranp` in two processes by torchrun, as a person does; return the exit code, stdout and stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "ranp"]
    done = subprocess.run(
        [*command, *map(str, words)], cwd=cwd, text=True, capture_output=True, check=False,
        env={**CLEAN, "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def forked_ranp(*words: object, cwd: Path, count: int = 2) -> tuple[int, str, str]:
    """Run `ranp` in processes forked from this one; return the exit code, stdout and stderr of them all."""

    def run() -> None:
        from ranp.commands.start import run

        sys.argv = ["ranp", *map(str, words)]
        run()

    return forked(run, cwd=cwd, count=count)


def forked(work: Callable[[], object], *, cwd: Path, count: int = 2) -> tuple[int, str, str]:
    """Do the work in each of several processes; return 0 or 1, stdout of them all, and stderr with the agent's report.

    Each has one thread, which is torchrun's default.
    """
    import monai  # noqa: F401  # for the forks, which else import it once each; so torch._dynamo and the commands
    import torch._dynamo  # noqa: F401
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    import ranp.commands.main  # noqa: F401

    before, known = {name: signal.getsignal(name) for name in SIGNALS}, dict(os.environ)
    config = LaunchConfig(
        1, 1, count, run_id="tests", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
        start_method="fork", monitor_interval=0.02, logs_specs=DefaultLogsSpecs(os.devnull),
    )  # fmt: skip
    with TemporaryDirectory() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the children use none of them
        try:
            elastic_launch(config, lambda: _entered(work, cwd, Path(said)))()
            code, report = 0, ""
        except ChildFailedError as error:
            code, report = 1, str(error)
        finally:
            os.environ.clear()
            os.environ.update(known)
            for name, handler in before.items():
                signal.signal(name, handler)
        texts = {path.name: path.read_text() for path in sorted(Path(said).iterdir())}
    out, err = ("".join(text for name, text in texts.items() if name.startswith(kind)) for kind in ("out", "err"))
    return code, out, err + report


def _entered(work: Callable[[], object], cwd: Path, said: Path) -> None:
    """Do the work in a fork, whose stdout and stderr are files."""
    for place, name in ((1, "out"), (2, "err")):
        with open(said / f"{name}.{os.environ['RANK']}", "w") as file:
            os.dup2(file.fileno(), place)
    torch.set_num_threads(1)
    os.chdir(cwd)
    with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
        try:
            work()
        except Exception:
            traceback.print_exc()
            raise


def errors_in(stderr: str) -> list[str]:
    """Return the lines that ranp said as errors; torchrun's own report stands beside them."""
    return [line for line in stderr.splitlines() if line.startswith("error: ")]
