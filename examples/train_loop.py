"""Train a pruned network in a loop of your own: `ranp.load` gives a plain module.

    ranp prune unet3d --data SCANS --patch 32 --sparsity 0.5 --out runs/slim
    python examples/train_loop.py runs/slim SCANS --steps 300 --out trained.safetensors
    ranp adopt runs/slim --weights trained.safetensors

The last line proves the weights and makes them the run's, so that `ranp evaluate`, `export` and `predict` use them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

import ranp
from ranp.data import Drawing, losses, open_source


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a folder that `ranp prune` wrote")
    parser.add_argument("data", help="as --data")
    parser.add_argument("--size", type=int, default=32, help="side of the patches")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, default=Path("trained.safetensors"))
    options = parser.parse_args(arguments)

    network, source = ranp.load(options.run), open_source(options.data)
    shape = (*source.channels(), *(options.size,) * 3)  # (C, D, H, W)
    with torch.no_grad():
        given = tuple(network.eval()(torch.zeros(1, *shape)).shape[1:])  # (classes, D, H, W)
    batches = source.batches([shape], given, Drawing(options.steps, batch_size=2, training=True, hold=64))

    loss, optimizer = losses.get("ce-dice"), torch.optim.AdamW(network.train().parameters(), options.lr)
    for step, (image, labels) in enumerate(batches, start=1):
        optimizer.zero_grad()
        value = loss(network(image), labels)
        value.backward()
        optimizer.step()
        if step == 1 or step % max(1, options.steps // 5) == 0:
            print(f"step {step}: loss {value.item():.4f}")
    save_file(network.state_dict(), options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
