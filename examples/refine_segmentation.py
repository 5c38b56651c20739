"""Train a small network, refine its logits, and compare: the layer as post-processing, and trained end to end.

    python examples/refine_segmentation.py                                             generated pictures
    python examples/refine_segmentation.py --image t1.nii.gz --labels tissue.nii.gz    axial slices of a volume

Three networks share their first half of training; then one goes on alone and one with the layer behind it, for as many
steps. The strength of the post-processing is the best of a few on the training slices. All are measured on others.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ranp import data, models
from ranp.adapters import mrf
from ranp.errors import need
from ranp.metrics import EdgeScores, SegmentationScores

STRENGTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
Split = tuple[Tensor, Tensor]  # images (N, 1, H, W), labels (N, H, W)


def generated(size: int, classes: int, noise: float, seed: int) -> tuple[Split, Split]:
    """Return 16 training and 8 test pictures of noisy discs."""
    pairs = list(data.phantom((size, size), classes=classes, batches=24, seed=seed))
    images = torch.cat([image for image, _ in pairs])
    images = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    labels = torch.cat([target for _, target in pairs])
    return (images[:16], labels[:16]), (images[16:], labels[16:])


def slices(image: Path, labels: Path, noise: float, seed: int) -> tuple[Split, Split]:
    """Return every second slice of the middle of a volume to train on, and a block of slices beside it to test on."""
    load = need("nibabel", "medical").load
    scan, truth = (np.moveaxis(np.asanyarray(load(path).dataobj), -1, 0) for path in (image, labels))
    height, width = (side // 8 * 8 for side in scan.shape[1:])
    images = torch.from_numpy(scan[:, None, :height, :width].astype(np.float32))
    images = (images - images.mean()) / images.std()
    images = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    target = torch.from_numpy(truth[:, :height, :width].astype(np.int64))
    middle, step = len(scan) // 2, len(scan) // 8
    train, test = slice(middle - step, middle, 2), slice(middle + 2, middle + step, 2)
    return (images[train], target[train]), (images[test], target[test])


def train(network: nn.Module, split: Split, steps: int, seed: int) -> None:
    """Take so many steps of Adam on batches of four."""
    images, labels = split
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(steps):
        batch = torch.randperm(len(images), generator=generator)[:4]
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


@torch.no_grad()
def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in images.split(8)])


@torch.no_grad()
def postprocessed(logits: Tensor, images: Tensor, strength: float) -> Tensor:
    """Return the labels (N, H, W) that TRWP gives the logits along the edges of the images."""
    layer = mrf.MRFLayer("trwp", logits.shape[1], strength=strength)
    refined = [
        layer(score[None], mrf.contrast_weights(image[None])) for score, image in zip(logits, images, strict=True)
    ]
    return torch.cat(refined).argmax(1)


def measure(labels: Tensor, truth: Tensor, classes: int) -> tuple[float, float]:
    """Return the mean Dice of the classes but the background, and the F-measure of edges met within a pixel."""
    scores, edges = SegmentationScores(classes), EdgeScores(dilations=(1,))
    for count in (scores, edges):
        count.update(labels, truth)
    true, false_positive, _, false_negative = scores.counts[1:].unbind(1)
    dice = 2 * true / (2 * true + false_positive + false_negative)
    return float(dice.nanmean()), edges.compute()[0].f_measure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a NIfTI volume")
    parser.add_argument("--labels", type=Path, help="its label map")
    parser.add_argument("--noise", type=float, default=0.5, help="added to the images, whose deviation is 1")
    parser.add_argument("--size", type=int, default=64, help="of the generated pictures")
    parser.add_argument("--steps", type=int, default=300, help="of training, half of them shared")
    parser.add_argument("--width", type=int, default=8, help="channels of the network's first level")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.image and options.labels:
        training, test = slices(options.image, options.labels, options.noise, options.seed)
    else:
        training, test = generated(options.size, 3, options.noise, options.seed)
    classes = int(training[1].max()) + 1

    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        shared = models.build("unet2d", in_channels=1, classes=classes, base_width=options.width, depth=3)
    train(shared, training, options.steps // 2, options.seed)
    alone = copy.deepcopy(shared)
    layer = mrf.MRFLayer("trwp", classes, strength=0.2, learn_weights=True, learn_pairwise=True)
    joined = mrf.attach(copy.deepcopy(shared), layer, edges="contrast")
    for network in (alone, joined):
        train(network, training, options.steps // 2, options.seed + 1)

    logits = logits_of(alone, training[0])
    tried = {strength: postprocessed(logits, training[0], strength) for strength in STRENGTHS}
    best = max(tried, key=lambda strength: measure(tried[strength], training[1], classes)[0])
    logits = logits_of(alone, test[0])
    rows = {
        "network alone": logits.argmax(1),
        f"post-processed (strength {best:g})": postprocessed(logits, test[0], best),
        "layer trained end to end": logits_of(joined, test[0]).argmax(1),
    }
    print(f"{len(training[0])} training and {len(test[0])} test images {tuple(test[0].shape[2:])}, {classes} labels")
    for name, labels in rows.items():
        dice, edge = measure(labels, test[1], classes)
        print(f"{name:32s} Dice {dice:.4f}   edge F {edge:.4f}")


if __name__ == "__main__":
    main()
