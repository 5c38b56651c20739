"""Prune a network, train it by `train_` and measure it: from a folder of volumes to figures, in one file.

python examples/train_slim.py SCANS --test TEST --classes 3 --steps 300
"""

import argparse
from collections.abc import Sequence

import torch

import ranp
from ranp import models
from ranp.data import Drawing, losses, open_source
from ranp.training import Training, evaluate, train_


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="to prune and train on, as --data")
    parser.add_argument("--test", required=True, help="to measure on, as --data")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="side of the patches")
    parser.add_argument("--width", type=int, default=8, help="of the full network's first level")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    shape, given = (1, *(options.size,) * 3), (options.classes, *(options.size,) * 3)
    full = models.build(
        "unet3d", in_channels=1, classes=options.classes, base_width=options.width, depth=3, seed=options.seed
    )
    loss, source, example = losses.get("ce-dice"), open_source(options.data), torch.zeros(1, *shape)

    scored = source.batches([shape], given, Drawing(batches=8, seed=options.seed))
    result = ranp.prune(full, example, batches=scored, loss=loss, sparsity=options.sparsity, reweight="flops")
    before, after = (sum(p.numel() for p in network.parameters()) for network in (full, result.slim))
    print(f"parameters: {before:,} before, {after:,} after")

    drawing = Drawing(options.steps, batch_size=2, seed=options.seed, training=True, hold=64)
    batches = source.batches([shape], given, drawing)
    trained = train_(result.slim, batches, loss, Training(steps=options.steps), seed=options.seed)
    print(f"loss: {trained.history.curve[0]['loss']:.4f} at first, {trained.history.curve[-1]['loss']:.4f} at last")

    scores = evaluate(result.slim, open_source(options.test), (example,))
    for name, value in scores.figures().items():
        print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
