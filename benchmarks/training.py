"""Seconds and memory of a training step, beside the bare torch loop on the same network, batches and optimizer.

    python benchmarks/training.py [--size 48] [--steps 20] [--rounds 5]

A step of `train_` should take at most 1.05 times as long, and no more than 1.05 times the memory.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from machine import describe
from torch import nn

from ranp import data, models
from ranp.data import losses
from ranp.options import Training
from ranp.training import train_

LOSS = losses.get("ce-dice")


def setting(size: int, steps: int) -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    network = models.build("unet3d", base_width=16, depth=3, in_channels=1, classes=4, seed=0)
    source = data.phantom((size,) * 3, classes=4, batches=2, batch_size=2)
    return network, (list(source) * steps)[:steps]


def bare(network: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for image, target in batches:
        LOSS(network(image), target).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        optimizer.zero_grad()


def ours(network: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    train_(network, batches, LOSS, Training(steps=len(batches), schedule="constant", warmup=0.0))


LOOPS = {"bare": bare, "train_": ours}


def peak(loop: str, size: int) -> float:
    """MiB of a process of its own that takes four steps."""
    command = [sys.executable, __file__, "--size", str(size), "--steps", "4", "--only", loop]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        LOOPS[options.only](*setting(options.size, options.steps))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(describe())
    seconds: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for _ in range(options.rounds + 1):
        for name, loop in LOOPS.items():
            network, batches = setting(options.size, options.steps)
            start = time.perf_counter()
            loop(network, batches)
            seconds[name].append((time.perf_counter() - start) / options.steps)
    ratios = [after / before for before, after in zip(seconds["bare"][1:], seconds["train_"][1:], strict=True)]
    for name, values in seconds.items():
        print(f"{name:7s} {statistics.median(values[1:]):.3f} s a step, peak {peak(name, options.size):.0f} MiB")
    print(
        f"ratio   {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f} over {options.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
