"""reassembly.cu without a GPU: compiled for 32 threads that take the part of a warp's (emulator/)."""

import ctypes
import re
import shutil
from pathlib import Path

import pytest
import torch

from ranp.kernels import _native_reassembly, native, reassembly_reference
from ranp.kernels.compiling import SOURCES, Recipe

EMULATOR = Path(__file__).parent / "emulator"


@pytest.fixture(scope="module")
def warp_of_threads(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("emulator")
    text, launches = re.subn(
        r"([\w<>]+)<<<(.+?), (.+?), (.+?), stream>>>\(",
        r"LAUNCH((\1), \2, \3, \4, ",
        (SOURCES / "reassembly.cu").read_text(),
    )
    assert launches == 3
    (folder / "emulated.cu").write_text(text)
    flags = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-pthread", "-ffp-contract=off", "-shared")
    folders = (f"-I{EMULATOR}", f"-I{SOURCES}", f"-I{folder}")
    command = (compiler, *flags, *folders, str(EMULATOR / "device.cpp"), "-o", "library.so")
    return ctypes.CDLL(str(Recipe("cuda", (command,), "").run(folder)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("channels", "coarse", "fine", "kernel_size"),
    [
        (1, (3,), (7,), (3,)),
        (33, (3, 2), (6, 4), (5, 5)),
        (70, (2, 3), (5, 5), (3, 3)),  # more than one warp to a source: 64 channels and 6
        (131, (2, 2), (4, 4), (1, 3)),
        (40, (2, 1, 2), (4, 3, 4), (3, 3, 3)),
    ],
)
def test_the_cuda_kernels_on_threads(
    warp_of_threads: ctypes.CDLL,
    channels: int,
    coarse: tuple[int, ...],
    fine: tuple[int, ...],
    kernel_size: tuple[int, ...],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")
    monkeypatch.setattr(native, "_loaded", {"cpu": warp_of_threads})
    random = torch.Generator().manual_seed(channels)

    def drawn(count: int, sizes: tuple[int, ...]) -> torch.Tensor:
        made = torch.randn((2, count, *sizes), generator=random, dtype=dtype)
        return made.movedim(1, -1).contiguous().movedim(-1, 1)  # the layout of the GPU

    x, kernels = drawn(channels, coarse), drawn(torch.Size(kernel_size).numel(), fine)
    out = _native_reassembly.forward(x, kernels, kernel_size)
    assert out is not None
    assert torch.equal(out, reassembly_reference.forward(x, kernels, kernel_size))
    grad = drawn(channels, fine)
    gradients = _native_reassembly.backward(grad, x, kernels, kernel_size, True, True)
    assert gradients is not None
    of_x = reassembly_reference.gradient_of_x(grad, kernels, kernel_size, coarse)
    of_kernels = reassembly_reference.gradient_of_kernels(grad, x, kernel_size)
    bound = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(gradients[0], of_x, rtol=bound, atol=bound)
    torch.testing.assert_close(gradients[1], of_kernels, rtol=bound, atol=bound)


def test_the_structure_is_as_large_as_the_cuda_one(warp_of_threads: ctypes.CDLL) -> None:
    assert warp_of_threads.ranp_reassembly_size() == ctypes.sizeof(_native_reassembly.RanpReassembly)
