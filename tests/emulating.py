"""A GPU without one: the CUDA sources compiled for 32 threads that take the part of a warp's lanes (kernels/emulator).

benchmarks/gpu.py checks with it, too, where there is no card.
"""

import ctypes
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from ranp.kernels import _native_passing as native_passing
from ranp.kernels import native
from ranp.kernels.compiling import SOURCES, Recipe

EMULATOR = Path(__file__).parent / "kernels" / "emulator"


def compiled(source: str, folder: Path) -> ctypes.CDLL:
    """Return the library of one CUDA source, compiled in `folder`, its launches written as calls of the emulator.

    Raises:
        FileNotFoundError: there is no g++.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("no g++")
    launch = re.compile(r"([\w<>]+)<<<(.+?), (.+?), (.+?), stream>>>\(")
    text = launch.sub(r"LAUNCH((\1), \2, \3, \4, ", (SOURCES / source).read_text())
    assert "<<<" not in text
    (folder / "emulated.cu").write_text(text)
    flags = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-pthread", "-ffp-contract=off", "-shared")
    folders = (f"-I{EMULATOR}", f"-I{SOURCES}", f"-I{folder}")
    command = (compiler, *flags, *folders, str(EMULATOR / "device.cpp"), "-o", "library.so")
    return ctypes.CDLL(str(Recipe("cuda", (command,), "").run(folder)))


@contextmanager
def emulated(library: ctypes.CDLL, shared: bool = True) -> Iterator[None]:
    """Put an emulated GPU in the place of the CPU library, with chain buffers of exactly the size a GPU gets.

    They are full of what must not be read before it is written, and so is what lies behind them.

    Args:
        library: of cuda.cu.
        shared: whether the chain buffers lie in shared memory, or where a GPU would have too little, in `stage`.
    """
    stages = []

    def stage(call: native_passing._Call, arrays: int) -> None:
        size = arrays * call.axes.room * call.like.shape[0] * call.fields["pitch"]
        stages.append((call.new("stage", size + 4096).fill_(torch.nan), size))

    library.ranp_device(*(232448, 233472, 132) if shared else (49152, 0, 1))
    with in_place_of_the_cpu(library), patch.object(native_passing._Call, "stage", stage):
        yield
    assert stages
    assert all(bool(buffer[size:].isnan().all()) for buffer, size in stages)


@contextmanager
def in_place_of_the_cpu(library: ctypes.CDLL) -> Iterator[None]:
    """Let the operators take this library for tensors on the CPU."""
    with patch.dict("os.environ", RANP_NATIVE="require"), patch.object(native, "_loaded", {"cpu": library}):
        yield
