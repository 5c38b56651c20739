"""Time and measure the reassembly of upsampled features, forward and backward, beside the forms that unfold.

    python benchmarks/upsampling_speed.py --threads 2

native     `ranp::reassemble`, C++
channels   the same with the channels last in memory (channels_last), as a network in that layout hands them over
pytorch    the same sums in PyTorch, one tap after the other (RANP_NATIVE=off), which serves where there is no compiler
unfold     the K^n neighbours of every coarse position, repeated for the fine ones, times kernels, summed: how it is
           usually written without a kernel of its own
product    the same neighbours, not repeated: a matrix product at every coarse position
compile    `unfold` under torch.compile

Milliseconds by the clock and, in brackets, of CPU time, the least of several runs: other jobs disturb the clock more.
Memory is what the first run adds to the resident memory of a process of its own at its peak (Linux): the result, the
gradients and what is needed on the way, not the inputs. Nothing is tested here: a shared machine has no say in right
and wrong.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch starts OpenMP: waiting must not count as work

import torch
import torch.nn.functional as F
from machine import describe
from torch import Tensor

from ranp.kernels.reassembly import reassemble

SIZES: dict[str, tuple[int, tuple[int, ...], int]] = {
    "256 x 64^2, K=5": (256, (64, 64), 5),
    "64 x 64^2, K=5": (64, (64, 64), 5),
    "16 x 128^2, K=5": (16, (128, 128), 5),
    "32 x 32^3, K=3": (32, (32, 32, 32), 3),
}
SMALL = "2 x 8^2, K=3"
Form = Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]


def native(x: Tensor, kernels: Tensor, size: tuple[int, ...]) -> Tensor:
    out: Tensor = reassemble(x, kernels, size)
    return out


def neighbours(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the neighbours of every position, (B, C, M, *coarse)."""
    windows = F.pad(x, [k // 2 for k in reversed(size) for _ in range(2)])
    for dim, k in enumerate(size, 2):
        windows = windows.unfold(dim, k, 1)  # (B, C, *coarse, *size) in the end
    taps_first = windows.permute(0, 1, *range(2 + len(size), windows.ndim), *range(2, 2 + len(size)))
    return taps_first.reshape(*x.shape[:2], prod(size), *x.shape[2:])


def unfold(x: Tensor, kernels: Tensor, size: tuple[int, ...]) -> Tensor:
    near = neighbours(x, size)
    for dim in range(len(size)):
        near = near.repeat_interleave(2, 3 + dim)
    return (near * kernels[:, None]).sum(2)


def product(x: Tensor, kernels: Tensor, size: tuple[int, ...]) -> Tensor:
    dims, batch, coarse = len(size), x.shape[0], x.shape[2:]
    near = neighbours(x, size).flatten(3).permute(0, 3, 1, 2)  # (B, N, C, M)
    parts = kernels.reshape(batch, prod(size), *[length for side in coarse for length in (side, 2)])
    order = [*range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2)]
    parts = parts.permute(0, *order).reshape(batch, prod(coarse), prod(size), 2**dims)
    fine = (near @ parts).reshape(batch, *coarse, x.shape[1], *[2] * dims)  # (B, *coarse, C, 2, 2, ..)
    back = [axis for dim in range(dims) for axis in (1 + dim, 2 + dims + dim)]
    return fine.permute(0, 1 + dims, *back).reshape(batch, x.shape[1], *[2 * side for side in coarse])


FORMS: dict[str, Form] = {
    "native": native,
    "channels": native,
    "pytorch": native,
    "unfold": unfold,
    "product": product,
    "compile": unfold,
}


def inputs_of(name: str, form: str) -> tuple[Tensor, Tensor, tuple[int, ...], Tensor]:
    """Return x, kernels, kernel size and the gradient of the result."""
    channels, coarse, size = (2, (8, 8), 3) if name == SMALL else SIZES[name]
    random = torch.Generator().manual_seed(0)
    fine = [2 * side for side in coarse]

    def drawn(*sizes: int) -> Tensor:
        made = torch.randn(sizes, generator=random)
        return made.movedim(1, -1).contiguous().movedim(-1, 1) if form == "channels" else made

    kernels = drawn(1, size ** len(coarse), *fine).softmax(1)
    return drawn(1, channels, *coarse), kernels, (size,) * len(coarse), drawn(1, channels, *fine)


def prepared(name: str, form: str) -> Callable[[], list[Tensor]]:
    """Return a step: forward, and the gradients of features and kernels."""
    x, kernels, size, grad = inputs_of(name, form)
    x.requires_grad_()
    kernels.requires_grad_()
    function: Form = torch.compile(FORMS[form]) if form == "compile" else FORMS[form]

    def step() -> list[Tensor]:
        out = function(x, kernels, size)
        return [out.detach(), *torch.autograd.grad(out, (x, kernels), grad)]

    return step


def memory(name: str, form: str) -> float:
    """Return the MiB that a first step adds at its peak, NaN where it can't be told."""
    prepared(SMALL, form)()  # loads libraries
    step, before = prepared(name, form), _status("VmRSS")
    if not _reset_peak():
        return float("nan")
    step()
    return (_status("VmHWM") - before) / 1024


def times(name: str, form: str, repeats: int) -> tuple[float, float]:
    """Return milliseconds by the clock and of CPU time, the least of several steps after a first."""
    step, walls, cpus = prepared(name, form), [], []
    step()
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return min(walls), min(cpus)


def _status(key: str) -> float:
    """Return a field of /proc/self/status in KiB."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((float(line.split()[1]) for line in lines if line.startswith(key)), float("nan"))


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def in_a_process_of_its_own(name: str, form: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Return wall and CPU milliseconds and MiB of one form; for the memory, freed blocks go back to the system."""
    command = [sys.executable, __file__, "--one", name, form, "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats)]
    native = {**os.environ, "RANP_NATIVE": "off" if form == "pytorch" else "require"}
    numbers: list[float] = []
    for environment, what in ((native, "times"), (native | {"MALLOC_MMAP_THRESHOLD_": "65536"}, "memory")):
        done = subprocess.run([*command, "--what", what], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        numbers += map(float, done.stdout.split())
    wall, cpu, added = numbers
    return wall, cpu, added


def agree(name: str) -> float:
    """Return the largest difference between any two forms, over the largest value, of results and gradients."""
    results = [prepared(name, form)() for form in ("native", "unfold", "product")]
    worst = 0.0
    for first, *others in zip(*results, strict=True):
        worst = max(worst, *(float((first - other).abs().max() / first.abs().max()) for other in others))
    return worst


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out; it takes a minute a size")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "FORM"), help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=["times", "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        name, form = options.one
        print(memory(name, form) if options.what == "memory" else "{} {}".format(*times(name, form, options.repeats)))
        return
    print(describe())
    forms = [form for form in FORMS if not (options.no_compile and form == "compile")]
    print(line(["features, to twice the size", "", *forms]))
    print(line(["---"] * (2 + len(forms))))
    for name in options.sizes:
        figures = {form: in_a_process_of_its_own(name, form, options) for form in forms}
        print(line([name, "ms (CPU)", *(f"{wall:.0f} ({cpu:.0f})" for wall, cpu, _ in figures.values())]))
        print(line(["", "MiB", *(f"{added:.0f}" for _, _, added in figures.values())]), flush=True)
        (wall, cpu, added), (slow, slow_cpu, large) = figures["native"], figures["unfold"]
        print(f"  native against unfold: {slow / wall:.1f} x faster by the clock, {slow_cpu / cpu:.1f} x in CPU time, "
              f"{large / added:.1f} x less memory; forms agree to {agree(name):.0e}", flush=True)  # fmt: skip


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
