"""Memory and time of the poolings beside the naive forms that copy every window, forward and backward.

    python benchmarks/pooling_memory.py                     # 4 x 64 x 112^2 and 1 x 32 x 48^3, windows of 2 and of 3
    python benchmarks/pooling_memory.py --side 56 --only p

Each form runs in processes of its own, on one thread. "kept" is what autograd keeps from forward to backward besides
the input; "peak" is how far the process's resident memory grows above the input in a forward and a backward (Linux,
with an allocator that gives back at once what is freed). Both are in units of the input's size; the gradient of the
input is 1 of it. Milliseconds are CPU time of a forward and a backward, the least of some runs: other jobs on the
machine count less there than on the clock. The naive forms are what a few lines of PyTorch do: unfold, then the
definition.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from machine import describe
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ranp.adapters.pooling import DPP, GatedPool, LpPool, PPool

Sizes = tuple[int, int, int]  # kernel, stride, padding


def unfolded(x: Tensor, sizes: Sizes) -> Tensor:
    """Copy every window: (B, C, *windows, k^n); padded by zeros."""
    kernel, stride, padding = sizes
    dims = x.ndim - 2
    x = nn.functional.pad(x, [padding] * 2 * dims)
    for dim in range(2, 2 + dims):
        x = x.unfold(dim, kernel, stride)
    return x.flatten(2 + dims)


def naive_p(x: Tensor, alpha: Tensor, sizes: Sizes) -> Tensor:
    """The stable form by a softmax over copies; the plain ratio overflows in float32."""
    windows = unfolded(x, sizes)
    weights = torch.softmax(alpha * windows.clamp(min=1e-20).log(), -1)
    return (weights * windows).sum(-1)


def naive_lp(x: Tensor, power: Tensor, sizes: Sizes) -> Tensor:
    return (unfolded(x, sizes) ** power).sum(-1) ** (1 / power[..., 0])


def naive_dpp(x: Tensor, strength: Tensor, sizes: Sizes) -> Tensor:
    windows = unfolded(x, sizes)
    square = (windows - windows.mean(-1, keepdim=True)).clamp(min=0).square() + 1e-3
    weights = 1 + (square / square.mean(-1, keepdim=True)) ** (strength / 2)
    return (weights * windows).sum(-1) / weights.sum(-1)


def forms(dims: int, channels: int, sizes: Sizes) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what is measured, by name; `-naive` beside ours, `-torch` ours without native code."""
    kernel, stride, padding = sizes
    own: dict[str, Any] = {"dims": dims, "channels": channels}
    largest: nn.Module = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dims - 1](kernel, stride, padding)
    vector = nn.Parameter(torch.full((1, channels, *[1] * (dims + 1)), 2.0))
    p = PPool(*sizes, **own, mode="channel", negative="trust")
    return {
        "max": largest,
        "p": p,
        "p-torch": p,
        "p-naive": lambda x: naive_p(x, vector, sizes),
        "p predicted": PPool(*sizes, **own, mode="predicted"),
        "lp": LpPool(*sizes, **own, mode="channel", negative="trust"),
        "lp-naive": lambda x: naive_lp(x, vector, sizes),
        "dpp": DPP(*sizes, **own),
        "dpp-naive": lambda x: naive_dpp(x, vector, sizes),
        "gated": GatedPool(*sizes, dims=dims),
    }


def measure(name: str, shape: tuple[int, ...], sizes: Sizes, runs: int) -> dict[str, float]:
    torch.set_num_threads(1)
    form = forms(len(shape) - 2, shape[1], sizes)[name]
    small = torch.rand((1, shape[1], *[max(8, sizes[0])] * (len(shape) - 2)), requires_grad=True)
    form(small).sum().backward()  # loads and compiles what the first call does
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    size, before, seconds = x.numel() * x.element_size(), peak_bytes(), []
    for _ in range(runs):
        start = time.process_time()
        y = form(x)
        y.backward(torch.ones_like(y))
        seconds.append(time.process_time() - start)
        x.grad = None
        del y
    peak, kept = peak_bytes() - before, dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() != x.untyped_storage().data_ptr():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        form(x)
    return {"ms": 1e3 * min(seconds), "peak": peak / size, "kept": sum(kept.values()) / size}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_process(name: str, shape: tuple[int, ...], sizes: Sizes, runs: int, **environment: str) -> dict[str, float]:
    environment |= {"RANP_NATIVE": "off"} if name.endswith("-torch") else {}
    command = [sys.executable, __file__, "--form", name, "--case", json.dumps([shape, sizes, runs])]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def table(shape: tuple[int, ...], sizes: Sizes, options: argparse.Namespace) -> None:
    mib = torch.Size(shape).numel() * 4 / 2**20
    print(f"\n{' x '.join(map(str, shape))} ({mib:.0f} MiB), kernel {sizes[0]}, stride {sizes[1]}, padding {sizes[2]}")
    print(f"{'':<14}{'kept':>8}{'peak':>8}{'ms':>8}{'x max':>8}")
    base = 0.0
    for name in forms(len(shape) - 2, shape[1], sizes):
        if options.only and name != "max" and not name.startswith(options.only):
            continue
        ms = in_process(name, shape, sizes, options.runs)["ms"]
        memory = in_process(name, shape, sizes, 1, MALLOC_MMAP_THRESHOLD_="65536")
        base = base or ms
        print(f"{name:<14}{memory['kept']:>8.2f}{memory['peak']:>8.2f}{ms:>8.0f}{ms / base:>8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=112, help="of the images; volumes are 3 / 7 of it")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="a kind: p, lp, dpp, gated")
    parser.add_argument("--form", help=argparse.SUPPRESS)  # set in the processes of this script
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.form:
        shape, sizes, runs = json.loads(options.case)
        print(json.dumps(measure(options.form, tuple(shape), tuple(sizes), runs)))
        return
    print(describe())
    for shape in ((4, 64, options.side, options.side), (1, 32, *[3 * options.side // 7] * 3)):
        for sizes in ((2, 2, 0), (3, 2, 1)):
            table(shape, sizes, options)


if __name__ == "__main__":
    main()
