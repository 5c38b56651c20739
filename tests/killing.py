"""Kill a child of this process at moments that no clock sets: before its n-th step on the disk, or inside of a write.

A step makes, opens for writing, renames, changes or removes a file or folder, as Python audits it. Between two steps
only the content of an open file changes, and that is cut where a file grows beyond a limit, by the system itself.
"""

import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], object]
STEPS = {f"os.{name}" for name in ("chmod", "link", "mkdir", "remove", "rename", "rmdir", "symlink", "truncate")}
STEPS |= {"shutil.rmtree"}  # of what an exchange of two folders, which is not audited, put aside
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def every_step(work: Work) -> Iterator[int]:
    """Yield 1, 2, ... after a child was killed before its first, second, ... step; then 0 for the one that lived."""
    for step in count(1):
        if not _killed(work, lambda step=step: _die_before(step)):
            break
        yield step
    yield 0


def killed_before(step: int, work: Work) -> bool:
    """Do the work in a child that is killed before its n-th step on the disk; say whether it was."""
    return _killed(work, lambda: _die_before(step))


def killed_beyond(size: int, work: Work) -> bool:
    """Do the work in a child that is killed where a file of it grows beyond a size in bytes; say whether it was."""
    return _killed(work, lambda: _die_beyond(size))


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file of a folder, by its name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _killed(work: Work, arm: Callable[[], None]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the child uses none of them
        child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)  # the parent's threads are not here
            arm()
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "the work failed before it was killed"
    return os.WIFSIGNALED(status)


def _die_before(step: int) -> None:
    left = step

    def audit(event: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        if event in STEPS or (event == "open" and given[2] & WRITES):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def _die_beyond(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
