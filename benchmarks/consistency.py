"""Time and peak memory of logit consistency: scatter, sparse matrix and dense matrix, forward and backward.

    python benchmarks/consistency.py                   # 8 x 21 x 512 x 512, 1,000 superpixels
    python benchmarks/consistency.py --batch 2 --side 256

Each form runs in a process of its own, which reports the growth of its resident memory over the inputs (output
included, Linux) and the best time of some runs. The dense form multiplies with the one-hot matrix of 1,000 x 262,144
per image; it runs once, on the first image only, and its time is scaled to the batch.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ranp.adapters.fusion._consistency import consistent_logits, consistent_logits_sparse

MIB = 2**20


def dense(logits: Tensor, superpixels: Tensor) -> Tensor:
    """Eq. 4.14 with S as a dense matrix."""
    results = []
    for y, labels in zip(logits.flatten(2), superpixels.flatten(1), strict=True):
        s = y.new_zeros(int(labels.amax()) + 1, len(labels)).scatter_(0, labels[None], 1)  # (N_s, N_p)
        means = (s @ y.T) / s.sum(1, keepdim=True).clamp(min=1)  # (N_s, C)
        results.append((s.T @ means).T)
    return torch.stack(results).view_as(logits)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scatter": consistent_logits,
    "sparse": consistent_logits_sparse,
    "dense": dense,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Logit consistency in three forms.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=21)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--superpixels", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)  # set in the processes of this script
    parser.add_argument("--backward", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.form:
        print(json.dumps(measure(options)))
        return
    size = options.batch * options.channels * options.side**2 * 4 / MIB
    labels = options.batch * options.side**2 * 8 / MIB
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, float32")
    shape = f"{options.batch} x {options.channels} x {options.side}^2"
    print(f"logits {shape} = {size:.1f} MiB, maps {labels:.1f} MiB (int64), {options.superpixels} superpixels")
    print("dense: one image, its time scaled to the batch, its memory not")
    for backward in (False, True):
        table(options, size, labels, backward)


def table(options: argparse.Namespace, size: float, labels: float, backward: bool) -> None:
    what = "forward and backward" if backward else "forward"
    print(f"\n{what:<22}{'seconds':>10}{'x scatter':>10}{'peak MiB':>10}{'/ (input + output)':>20}")
    base = 0.0
    for form in FORMS:
        figures = run(options, form, backward)
        base = base or figures["seconds"]
        peak = size + labels + figures["growth_mib"]
        share = f"{peak / (2 * size + labels):.2f}" if not backward else "-"
        seconds = figures["seconds"]
        print(f"{form:<22}{seconds:>10.3f}{seconds / base:>10.1f}{peak:>10.0f}{share:>20}", flush=True)


def run(options: argparse.Namespace, form: str, backward: bool) -> dict[str, float]:
    settings = [f"--{name}={getattr(options, name)}" for name in ("batch", "channels", "side", "superpixels", "runs")]
    command = [sys.executable, __file__, *settings, "--form", form, *(["--backward"] if backward else [])]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def measure(options: argparse.Namespace) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    images = 1 if options.form == "dense" else options.batch
    warm_up(FORMS[options.form], options.backward)
    logits = torch.randn(images, options.channels, options.side, options.side, generator=generator)
    superpixels = grid_maps(images, options.side, options.superpixels)
    logits.requires_grad_(options.backward)
    before, seconds = peak_bytes(), []
    for _ in range(options.runs if images > 1 else 1):
        start = time.perf_counter()
        result = FORMS[options.form](logits, superpixels)
        if options.backward:
            result.backward(torch.ones_like(result))
        seconds.append(time.perf_counter() - start)
        del result
        logits.grad = None
    return {"seconds": min(seconds) * options.batch / images, "growth_mib": (peak_bytes() - before) / MIB}


def warm_up(form: Callable[[Tensor, Tensor], Tensor], backward: bool) -> None:
    """Load what the first call loads, so that it does not count."""
    logits = torch.zeros(1, 2, 8, 8, requires_grad=backward)
    result = form(logits, grid_maps(1, 8, 4))
    if backward:
        result.sum().backward()


def grid_maps(images: int, side: int, superpixels: int) -> Tensor:
    """Rectangles of about equal size, numbered 0 .. superpixels - 1: (images, side, side)."""
    rows = max(1, round(superpixels**0.5))
    while superpixels % rows:
        rows -= 1
    columns = superpixels // rows
    y = torch.arange(side) * rows // side
    x = torch.arange(side) * columns // side
    return (y[:, None] * columns + x).expand(images, -1, -1).contiguous()  # type: ignore[no-any-return]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
