"""Join a segmentation network with superpixels, and train them on together.

python examples/fuse.py                             generated images, SLIC superpixels
python examples/fuse.py --superpixels network       superpixels of a second network, trained on the association loss
python examples/fuse.py --images t1.nii.gz --labels tissue.nii.gz --classes 4      slices of a volume
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ranp import data, models
from ranp.adapters import FusedSegmenter, association_loss, fuse
from ranp.data import losses
from ranp.metrics import EdgeScores, SegmentationScores

RATE = 1e-4
"""Learning rate of the networks once they are joined."""
INTERVAL = 8
"""Pixels between the cells of the superpixel network's grid."""


def source(options: argparse.Namespace, batches: int, seed: int) -> data.Source:
    size = (options.size, options.size)
    if options.images is None:
        return data.phantom(size, channels=1, classes=options.classes, batches=batches, batch_size=4, seed=seed)
    return data.nifti([options.images], [options.labels], size, options.classes, batches, batch_size=4, seed=seed)


def train_segmenter(segmenter: nn.Module, batches: data.Source, rate: float = 1e-3) -> None:
    optimizer, loss = torch.optim.Adam(segmenter.train().parameters(), rate), losses.get("ce")
    for image, target in batches:
        optimizer.zero_grad()
        loss(segmenter(image), target).backward()
        optimizer.step()


def train_superpixels(network: nn.Module, batches: data.Source, classes: int) -> None:
    optimizer = torch.optim.Adam(network.train().parameters(), lr=3e-3)
    for image, target in batches:
        optimizer.zero_grad()
        association_loss(network(image), target.long(), INTERVAL, classes=classes, reduction="mean").backward()
        optimizer.step()


def train_jointly(fused: FusedSegmenter, batches: data.Source, classes: int) -> None:
    """Train both networks and the stack; rates 100 times the paper's, for networks that are far from trained."""
    optimizer, loss = torch.optim.Adam(fused.train().param_groups(RATE, RATE / 10)), losses.get("ce")
    for image, target in batches:
        optimizer.zero_grad()
        if fused.has_grid:
            logits, scores = fused.joint(image)
            extra = association_loss(scores, target.long(), INTERVAL, classes=classes, reduction="mean")
            (loss(logits, target) + extra).backward()
        else:
            loss(fused(image), target).backward()
        optimizer.step()


@torch.no_grad()
def measure(name: str, network: nn.Module, batches: data.Source, classes: int) -> None:
    segmentation, edges = SegmentationScores(classes), EdgeScores(dilations=(1, 3))
    for image, target in batches:
        prediction = network.eval()(image).argmax(1)
        segmentation.update(prediction, target.long())
        edges.update(prediction, target.long())
    near, wide = edges.compute()
    print(
        f"{name:<24} mIoU {segmentation.miou():.4f}   pixel accuracy {segmentation.pixel_accuracy():.4f}   "
        f"edges within 1 pixel: F {near.f_measure:.4f}, ratio {near.performance_ratio:.3f}; 3: F {wide.f_measure:.4f}"
    )


def superpixel_network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 9, 1)
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a NIfTI volume, cut into slices")
    parser.add_argument("--labels", type=Path, help="its labels")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--superpixels", choices=("slic", "network"), default="slic")
    parser.add_argument("--segments", type=int, default=200, help="SLIC superpixels per image")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if (options.images is None) != (options.labels is None):
        parser.error("--images and --labels go together")

    training = source(options, options.steps, options.seed)
    test = source(options, min(options.steps, 4), options.seed + 1)
    segmenter = models.build("unet2d", in_channels=1, classes=options.classes, base_width=8, depth=3, seed=options.seed)
    train_segmenter(segmenter, training)
    measure("segmenter", segmenter, test, options.classes)

    second = None
    if options.superpixels == "network":
        second = superpixel_network(options.seed)
        train_superpixels(second, training, options.classes)
    fused = fuse(
        segmenter, second, example=next(iter(training))[0], interval=INTERVAL if second else None,
        segments=options.segments, activation="relu",
    )  # fmt: skip
    measure("fused, untrained", fused, test, options.classes)
    alone = copy.deepcopy(segmenter)
    train_jointly(fused, training, options.classes)
    measure("fused, trained on", fused, test, options.classes)
    train_segmenter(alone, training, RATE)
    measure("segmenter, trained on", alone, test, options.classes)


if __name__ == "__main__":
    main()
