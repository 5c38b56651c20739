"""reassembly.cu without a GPU: compiled for 32 threads that take the part of a warp's (emulator/)."""

import ctypes

import pytest
import torch
from emulating import compiled, in_place_of_the_cpu

from ranp.kernels import _native_reassembly, reassembly_reference


@pytest.fixture(scope="module")
def warp_of_threads(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    try:
        return compiled("reassembly.cu", tmp_path_factory.mktemp("emulator"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


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
) -> None:
    random = torch.Generator().manual_seed(channels)

    def drawn(count: int, sizes: tuple[int, ...]) -> torch.Tensor:
        made = torch.randn((2, count, *sizes), generator=random, dtype=dtype)
        return made.movedim(1, -1).contiguous().movedim(-1, 1)  # the layout of the GPU

    x, kernels = drawn(channels, coarse), drawn(torch.Size(kernel_size).numel(), fine)
    grad = drawn(channels, fine)
    with in_place_of_the_cpu(warp_of_threads):
        out = _native_reassembly.forward(x, kernels, kernel_size)
        gradients = _native_reassembly.backward(grad, x, kernels, kernel_size, True, True)
    assert out is not None
    assert torch.equal(out, reassembly_reference.forward(x, kernels, kernel_size))
    assert gradients is not None
    of_x = reassembly_reference.gradient_of_x(grad, kernels, kernel_size, coarse)
    of_kernels = reassembly_reference.gradient_of_kernels(grad, x, kernel_size)
    bound = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(gradients[0], of_x, rtol=bound, atol=bound)
    torch.testing.assert_close(gradients[1], of_kernels, rtol=bound, atol=bound)


def test_the_structure_is_as_large_as_the_cuda_one(warp_of_threads: ctypes.CDLL) -> None:
    assert warp_of_threads.ranp_reassembly_size() == ctypes.sizeof(_native_reassembly.RanpReassembly)
