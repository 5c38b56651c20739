"""The CUDA sources without a GPU: they compile, and they compute the right thing on a warp of 32 threads.

Twice: the walkers they share with the CPU, in vectors as wide as a warp; and cuda.cu itself, on threads that take the
part of the lanes (emulator/).
"""

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from emulating import compiled, emulated
from rounding import reordered
from torch import Tensor

from ranp.kernels import _native_passing as native_passing
from ranp.kernels import _reference_backward as reference_backward
from ranp.kernels import compiling, native, reference
from ranp.kernels.compiling import SOURCES, BuildError, Recipe
from ranp.kernels.reference import METHODS, Spec

STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, -2), (-1, 2))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PTX for the newest target, hardly optimised: `ranp kernels build cuda` takes minutes."""
    try:
        recipe = compiling.cuda_recipe(compiling.CUDA_TARGETS[-1:])
    except BuildError as error:
        pytest.skip(str(error))
    quick = tuple((*(part for part in command if "code=sm_" not in part), "-Xcicc=-O0") for command in recipe.commands)
    return replace(recipe, commands=quick).run(tmp_path_factory.mktemp("cuda"))


def test_the_cuda_sources_compile_and_export_what_the_cpu_library_does(library: Path) -> None:
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in listed.splitlines()}
    assert {name for name in names if name.startswith("ranp")} == {
        "ranp_abi_version",
        "ranp_pass_size",
        "ranp_isa",
        "ranp_error",
        "ranp_pass_forward",
        "ranp_pass_backward",
        "ranp_reassembly_size",
        "ranp_reassembly_forward",
        "ranp_reassembly_backward",
    }


def test_without_a_gpu_a_launch_returns_a_code_with_a_text(library: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, and no tensors on it to launch with")
    loaded = native.load(library)
    assert loaded.ranp_pass_size() == ctypes.sizeof(native_passing.RanpPass)
    table = (ctypes.c_int64 * 2)(0, 1)
    address = ctypes.addressof(table)
    call = native_passing.RanpPass(batch=1, nodes=1, labels=1, directions=2, iterations=1, pitch=32)
    call.chain_begin = call.chain_longest = call.stride = address
    loaded.ranp_error.restype = ctypes.c_char_p
    code = loaded.ranp_pass_forward(ctypes.byref(call))
    assert code >= 1000
    assert loaded.ranp_error(code)


@pytest.fixture(scope="module")
def warp_wide(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    flags = [flag for flag in compiling.COMMON if flag != "-O3"] + ["-O1", *compiling.ARITHMETIC]
    wide = (compiler, *flags, "-Wno-psabi", "-DRANP_WARP", "-DRANP_ISA=baseline")
    units = (*wide, "-c", str(SOURCES / "isa.cpp"), "-o", "isa.o")
    link = (*wide, "-shared", str(SOURCES / "cpu.cpp"), "isa.o", "-o", "library.so")
    return native.load(Recipe("cpu", (units, link), "").run(tmp_path_factory.mktemp("warp")))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("window", [0, 2])
@pytest.mark.parametrize("labels", [3, 32, 45, 130])
def test_walkers_at_the_width_of_a_warp(
    warp_wide: ctypes.CDLL, method: str, window: int, labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")
    monkeypatch.setattr(native, "_loaded", {"cpu": warp_wide})
    spec = Spec(method, (5, 6), STEPS, 2, window=window, last=labels == 45)
    random = torch.Generator().manual_seed(labels)
    unary = torch.rand((2, 30, labels), generator=random)
    weights = torch.rand((2, 6, 30), generator=random)
    index = torch.arange(labels)
    pairwise = (index[:, None] - index).abs().clamp(max=window or labels).float()
    assert_same(unary, weights, pairwise, spec)


@pytest.fixture(scope="module")
def warp_of_threads(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    try:
        return compiled("cuda.cu", tmp_path_factory.mktemp("emulator"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "spec", "dtype", "shared"),
    [
        (3, Spec("", (3, 4), STEPS, 2), torch.float32, True),
        (45, Spec("", (3, 4), STEPS, 2, window=2, last=True), torch.float32, False),
        (96, Spec("", (2, 3), STEPS, 2), torch.float32, True),
        (100, Spec("", (2, 2), STEPS[:4], 1, last=True), torch.float32, False),
        (130, Spec("", (2, 3), STEPS, 1), torch.float32, True),
        (256, Spec("", (1, 2), STEPS[:2], 2, window=3), torch.float32, True),
        (33, Spec("", (3, 2), STEPS, 3, window=5, normalise=False), torch.float64, False),
        (300, Spec("", (2, 2), STEPS[:4], 1, window=2, last=True), torch.float32, False),
    ],
)
def test_the_cuda_kernels_on_threads(
    warp_of_threads: ctypes.CDLL,
    method: str,
    labels: int,
    spec: Spec,
    dtype: torch.dtype,
    shared: bool,
) -> None:
    """`shared`: whether the chain buffers lie in shared memory, or where a GPU would have too little, in `stage`."""
    with emulated(warp_of_threads, shared):
        spec = replace(spec, method=method)
        nodes, random = torch.Size(spec.shape).numel(), torch.Generator().manual_seed(labels)
        unary = (torch.rand((2, nodes, labels), generator=random, dtype=dtype) * 9).round()
        weights = (torch.rand((2, len(spec.steps), nodes), generator=random, dtype=dtype) * 3).round()
        weights = weights[:1, :, :1] if labels == 96 else weights  # V comes scaled then
        index = torch.arange(labels)
        pairwise = (index[:, None] - index).abs().clamp(max=spec.window or labels).to(dtype)
        assert_same(unary, weights, pairwise, spec)


LABELS = [1, 31, 32, 33, 64, 65, 255, 256, 257, 512, 992, 993, 1023, 1024]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("shared", [True, False])
def test_shared_memory_is_enough_for_any_number_of_labels(
    warp_of_threads: ctypes.CDLL, labels: int, shared: bool
) -> None:
    """The widest type and the widest window: 48 KiB at 1024 labels, which is all that some devices have."""
    random = torch.Generator().manual_seed(labels)
    unary, weights = torch.rand((1, 2, labels), generator=random).double(), torch.ones(1, 2, 2).double()
    index = torch.arange(labels)
    with emulated(warp_of_threads, shared):
        for window in {0, labels - 1}:
            pairwise = (index[:, None] - index).abs().clamp(max=window or labels).double() / labels
            assert_same(unary, weights, pairwise, Spec("trwp", (1, 2), STEPS[:2], 1, window=window))


def test_a_launch_takes_no_shared_memory_from_another(warp_of_threads: ctypes.CDLL) -> None:
    """What a kernel is allowed belongs to the kernel: threads with grids of other sizes launch it, too."""
    with emulated(warp_of_threads, True):
        for length in (40, 2):
            unary, weights, pairwise = torch.rand(1, length, 96), torch.ones(1, 2, 1), 1 - torch.eye(96)
            assert_same(unary, weights, pairwise, Spec("isgmr", (1, length), STEPS[:2], 1))
        assert warp_of_threads.ranp_device_lowered() == 0


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("batch", [2**31, 2**32 + 1])
def test_more_blocks_than_a_grid_has_are_refused(warp_of_threads: ctypes.CDLL, direction: str, batch: int) -> None:
    """2^32 + 1 blocks would be launched as one."""
    begin, one = (ctypes.c_int64 * 2)(0, 1), (ctypes.c_int64 * 1)(1)
    call = native_passing.RanpPass(batch=batch, nodes=1, labels=1, directions=2, iterations=1, pitch=32)
    call.chain_begin = ctypes.addressof(begin)
    call.chain_longest = call.stride = ctypes.addressof(one)
    assert getattr(warp_of_threads, f"ranp_pass_{direction}")(ctypes.byref(call)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_launched_after_a_launch_that_failed(warp_of_threads: ctypes.CDLL, method: str) -> None:
    spec, unary = Spec(method, (1, 2), STEPS[:2], 2), torch.rand(1, 2, 3)
    weights, pairwise = torch.ones(1, 2, 1), 1 - torch.eye(3)

    def forward() -> reference.Result | None:
        return native_passing.forward(unary, weights, pairwise, spec, False)

    def backward() -> object:
        return native_passing.backward(unary, good.p, good.q, weights, pairwise, spec, True, True)

    with emulated(warp_of_threads, True):
        good = reference.forward(unary, weights, pairwise, spec)
        for function in (forward, backward):
            warp_of_threads.ranp_device_refuse(-1)
            function()
            launches = warp_of_threads.ranp_device_launches()
            assert launches >= 2
            for number in range(launches):
                warp_of_threads.ranp_device_refuse(number)
                with pytest.raises(RuntimeError, match="native cpu kernel: an error"):
                    function()
                assert warp_of_threads.ranp_device_launches() == number + 1
            warp_of_threads.ranp_device_refuse(-1)


def assert_same(unary: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec) -> None:
    """The forward agrees in every bit; the sums of the backward agree up to their order."""
    ours = native_passing.forward(unary, weights, pairwise, spec, True)
    theirs = reference.forward(unary, weights, pairwise, spec)
    assert ours is not None
    assert all(torch.equal(mine, expected) for mine, expected in zip(ours, theirs, strict=True))
    silent = native_passing.forward(unary, weights, pairwise, replace(spec, record=False), False)
    assert silent is not None
    assert torch.equal(silent.cost, ours.cost)
    grad = torch.rand(unary.shape, generator=torch.Generator().manual_seed(0), dtype=unary.dtype)
    saved = (grad, ours.p, ours.q, weights, pairwise, spec)
    mine, expected = native_passing.backward(*saved, True, True), reference_backward.backward(*saved)
    assert mine is not None
    bound = reordered(unary.dtype, unary.shape[-1])
    for found, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(found, other, rtol=bound, atol=bound * float(other.abs().max()))
