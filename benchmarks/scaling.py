"""Seconds of a training step and of a scored batch, by how many processes share them.

    python benchmarks/scaling.py [--rounds 5] [--processes 1 2]

Each round runs every way once, so that a busy moment of the machine meets all; the medians over the rounds are printed.
A process has one thread, but for the way that gives one process all cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

import torch
from machine import describe
from torch import nn

import ranp
from ranp import data, models, processes
from ranp.options import Training
from ranp.training import Moment, train_

STEPS, BATCHES, BATCH_SIZE, PATCH = 12, 8, 4, (24, 24, 24)
WARM = 2  # steps that are not counted


def work() -> dict[str, float]:
    """Train and score once; return medians of this process."""
    network = models.build("unet3d", base_width=8, depth=3, classes=3)
    loss = nn.functional.cross_entropy
    batches = data.phantom(PATCH, classes=3, batches=BATCHES, batch_size=BATCH_SIZE)
    held = [next(iter(batches))] * max(STEPS, BATCHES)  # drawing is not what is measured
    graph = ranp.trace(network, held[0][0])
    ranp.importance(network, graph, held[:2], loss)
    start = time.perf_counter()
    ranp.importance(network, graph, held[:BATCHES], loss)
    scored = (time.perf_counter() - start) / BATCHES
    ends: list[float] = []

    def watch(_: Moment) -> None:
        ends.append(time.perf_counter())

    train_(network, held, loss, Training(steps=STEPS), watch=watch)
    steps = [after - before for before, after in zip(ends[WARM:], ends[WARM + 1 :], strict=False)]
    gradients = 4 * sum(parameter.numel() for parameter in network.parameters())
    return {"batch scored": scored, "training step": median(steps), "gradient bytes": gradients}


def launched(count: int, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    alone = [sys.executable]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*(command if count > 1 else alone), __file__, "--work"], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", action="store_true")
    given = parser.parse_args()
    if given.work:
        torch.manual_seed(0)
        with processes.together():
            found = work()
            if processes.is_first():
                print(json.dumps(found))
        return
    print(describe())
    ways = [(count, 1) for count in given.processes] + [(1, os.cpu_count() or 1)]
    rounds = [[launched(*way) for way in ways] for _ in range(given.rounds)]
    for (count, threads), *runs in zip(ways, *rounds, strict=True):
        each = {name: median(run[name] for run in runs) for name in runs[0]}
        spread = {name: (min(run[name] for run in runs), max(run[name] for run in runs)) for name in runs[0]}
        told = ", ".join(
            f"{name} {each[name]:.3f} s ({spread[name][0]:.3f} to {spread[name][1]:.3f})" for name in list(each)[:2]
        )
        print(f"{count} process(es) of {threads} thread(s): {told}; {each['gradient bytes'] / 1e6:.1f} MB of gradients")


if __name__ == "__main__":
    main()
