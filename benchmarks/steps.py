"""Seconds of each step of a prune, beside a plain forward-backward of the same batches in the same run.

    python benchmarks/steps.py [--size 64] [--batches 4]

Scoring should take at most 1.15 times as long as the plain passes; what is ours (trace + select + slim) less than three
passes of one batch, and the proof (verify) less than scoring one.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from machine import describe
from monai.networks.nets import UNet
from torch import Tensor, nn

import ranp
from ranp import models

Result = TypeVar("Result")


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def forward_backward(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
    for image, target in batches:
        nn.functional.cross_entropy(model(image), target).backward()
        model.zero_grad(set_to_none=True)


def measure(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    model.train()
    image, loss = batches[0][0], nn.functional.cross_entropy
    forward_backward(model, batches[:1])  # warm-up
    seconds: dict[str, float] = {}
    seconds["trace"], graph = timed(lambda: ranp.trace(model, image))
    plain, scored = [], []
    for _ in range(3):  # in turns, so that a busy moment of the machine meets both
        plain.append(timed(lambda: forward_backward(model, batches))[0])
        took, scores = timed(lambda: ranp.importance(model, graph, batches, loss, progress=False))
        scored.append(took)
    seconds["score"], seconds["plain"] = min(scored), min(plain)
    seconds["select"], plan = timed(lambda: ranp.select(graph, scores, max_sparsity=True, reweight="flops"))
    seconds["slim"], slim = timed(lambda: ranp.slim(model, plan))
    seconds["verify"], _ = timed(lambda: ranp.verify(model, slim, plan, image))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of the cube")
    parser.add_argument("--batches", type=int, default=4, help="how many are scored")
    options = parser.parse_args()
    size, count = options.size, options.batches
    networks = {
        "unet3d brats-15": (models.build("unet3d", preset="brats-15"), 4, 5),
        "MONAI UNet": (UNet(3, 1, 4, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2), 1, 4),
    }
    print(describe())
    ranp.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2))  # first use imports the meta kernels
    for name, (model, channels, classes) in networks.items():
        generator = torch.Generator().manual_seed(0)
        shape = (1, channels, size, size, size)
        batches = [
            (torch.randn(shape, generator=generator), torch.randint(classes, (1, *shape[2:]), generator=generator))
            for _ in range(count)
        ]
        seconds = measure(model, batches)
        one, ours = seconds["plain"] / count, sum(seconds[step] for step in ("trace", "select", "slim"))
        print(f"\n{name}, {count} batches of {'x'.join(map(str, shape))}; a pass is a forward-backward of one")
        for step, value in seconds.items():
            print(f"  {step:<8}{value:8.3f} s   {value / one:6.2f} passes")
        print(f"  score / plain    {seconds['score'] / seconds['plain']:6.3f}  (limit 1.15)")
        print(f"  ours             {ours / one:6.2f}  passes (trace + select + slim; limit 3)")
        print(f"  verify / score   {seconds['verify'] * count / seconds['score']:6.3f}  of one batch (limit 1)")


if __name__ == "__main__":
    main()
