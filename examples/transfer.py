"""Prune on one data set, train on another, and the reverse, against pruning on each itself (the paper's Table 5.5).

python examples/transfer.py                                          two sets of generated volumes
python examples/transfer.py --images t1.nii.gz --labels tissue.nii.gz --classes 4      the second set is your own

Every slim network is initialised anew and trained by the same plain loop; only where its widths come from differs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.metrics import DiceMetric
from torch import Tensor, nn
from torch.nn.functional import one_hot

import ranp
from ranp import data, models
from ranp.data import losses

Batches = list[tuple[Tensor, Tensor]]
HELD_OUT = 4
"""Batches kept from training, to measure on."""


class DataSet:
    """Batches to train on, batches to measure on, and what a network for them looks like."""

    def __init__(self, name: str, source: data.Source, classes: int, width: int) -> None:
        batches: Batches = list(source)
        self.name, self.classes, self.width = name, classes, width
        self.training, self.test = batches[:-HELD_OUT], batches[-HELD_OUT:]
        self.example = torch.zeros_like(batches[0][0][:1])

    def network(self, seed: int) -> nn.Module:
        """Return the full network for this data."""
        channels = self.example.shape[1]
        return models.build(
            "unet3d", in_channels=channels, classes=self.classes, base_width=self.width, depth=3, seed=seed
        )


def data_sets(options: argparse.Namespace) -> list[DataSet]:
    patch, count = (options.size,) * 3, options.batches + HELD_OUT
    first = data.phantom(patch, channels=1, classes=3, batches=count, batch_size=2, seed=options.seed)
    if options.images:
        second = data.nifti([options.images], [options.labels], patch, options.classes, count, 2, options.seed)
        return [DataSet("A", first, 3, options.width), DataSet("B", second, options.classes, options.width)]
    second = data.phantom(patch, channels=2, classes=4, batches=count, batch_size=2, seed=options.seed + 1)
    return [DataSet("A", first, 3, options.width), DataSet("B", second, 4, options.width)]


def prune(on: DataSet, sparsity: float, seed: int) -> ranp.Plan:
    network, loss = on.network(seed), losses.get("ce-dice")
    return ranp.prune(
        network, on.example, batches=on.training[:4], loss=loss, sparsity=sparsity, reweight="flops", strength=11.0
    ).plan


def train(network: nn.Module, batches: Batches, steps: int) -> None:
    optimizer, loss = torch.optim.Adam(network.train().parameters(), lr=3e-3), losses.get("ce-dice")
    for step in range(steps):
        image, labels = batches[step % len(batches)]
        optimizer.zero_grad()
        loss(network(image), labels).backward()
        optimizer.step()


@torch.no_grad()
def dice(network: nn.Module, batches: Batches, classes: int) -> float:
    """Mean Dice over volumes and the classes without the background."""
    metric = DiceMetric(include_background=False, reduction="mean")
    for image, labels in batches:
        predicted = network.eval()(image).argmax(1)
        metric(y_pred=one_hot(predicted, classes).movedim(-1, 1), y=one_hot(labels, classes).movedim(-1, 1))
    mean = metric.aggregate()
    assert isinstance(mean, torch.Tensor)
    return float(mean)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a NIfTI volume, the second data set")
    parser.add_argument("--labels", type=Path, help="its labels")
    parser.add_argument("--classes", type=int, default=4, help="of the labels")
    parser.add_argument("--size", type=int, default=16, help="side of the patches")
    parser.add_argument("--width", type=int, default=8, help="of the network's first level")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--batches", type=int, default=16, help="to train on")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    sets = data_sets(options)
    plans = {on.name: prune(on, options.sparsity, options.seed) for on in sets}
    print(f"{'pruned on':<12}{'trained on':<12}{'parameters':>12}{'MFLOPs':>10}{'Dice':>8}")
    for on in sets:
        for origin in (on.name, *(other for other in plans if other != on.name)):
            found = ranp.transfer(plans[origin], on.network(options.seed), on.example, seed=options.seed)
            train(found.slim, on.training, options.steps)
            cost, score = found.report.slim, dice(found.slim, on.test, on.classes)
            print(f"{origin:<12}{on.name:<12}{cost['params']:>12,}{cost['flops'] / 1e6:>10.1f}{score:>8.3f}")
        full = on.network(options.seed)
        train(full, on.training, options.steps)
        size = sum(parameter.numel() for parameter in full.parameters())
        print(f"{'nothing':<12}{on.name:<12}{size:>12,}{'':>10}{dice(full, on.test, on.classes):>8.3f}")


if __name__ == "__main__":
    main()
