"""Seconds of each step of a prune, beside one forward-backward of the same batch.

    python benchmarks/steps.py [--size 64]

What is ours (trace + select + slim) should stay below three forward-backward passes.
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


def forward_backward(model: nn.Module, image: Tensor, target: Tensor) -> None:
    nn.functional.cross_entropy(model(image), target).backward()
    model.zero_grad(set_to_none=True)


def measure(model: nn.Module, image: Tensor, target: Tensor) -> dict[str, float]:
    model.train()
    forward_backward(model, image, target)  # warm-up
    seconds = {"forward-backward": min(timed(lambda: forward_backward(model, image, target))[0] for _ in range(3))}
    seconds["trace"], graph = timed(lambda: ranp.trace(model, image))
    loss = nn.functional.cross_entropy
    seconds["score"], scores = timed(lambda: ranp.importance(model, graph, [(image, target)], loss))
    seconds["select"], plan = timed(lambda: ranp.select(graph, scores, max_sparsity=True, reweight="flops"))
    seconds["slim"], slim = timed(lambda: ranp.slim(model, plan))
    seconds["verify"], _ = timed(lambda: ranp.verify(model, slim, plan, image))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of the cube")
    size = parser.parse_args().size
    networks = {
        "unet3d brats-15": (models.build("unet3d", preset="brats-15"), 4, 5),
        "MONAI UNet": (UNet(3, 1, 4, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2), 1, 4),
    }
    print(describe())
    ranp.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2))  # first use imports the meta kernels
    for name, (model, channels, classes) in networks.items():
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(1, channels, size, size, size, generator=generator)
        target = torch.randint(classes, (1, size, size, size), generator=generator)
        seconds = measure(model, image, target)
        ours = sum(seconds[step] for step in ("trace", "select", "slim"))
        print(f"\n{name}, 1x{channels}x{size}x{size}x{size}")
        for step, value in seconds.items():
            print(f"  {step:<17}{value:8.3f} s   {value / seconds['forward-backward']:6.2f} forward-backward passes")
        print(
            f"  {'ours':<17}{ours:8.3f} s   {ours / seconds['forward-backward']:6.2f}  (trace + select + slim; limit 3)"
        )


if __name__ == "__main__":
    main()
