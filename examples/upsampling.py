"""Train one encoder-decoder with several ways to upsample, and look at the edges: bilinear, CARAFE, FADE-Lite, FADE.

python examples/upsampling.py --picture edges.png          a few minutes on two cores

The network halves noisy pictures of discs three times. Its decoder upsamples and convolves; the encoder's features
reach it only where an upsampler takes them there, or, in the second row, where they are added, as many decoders do. All
start from the same weights and see the same batches.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ranp import data
from ranp.adapters.upsampling import swap_upsampling
from ranp.errors import need
from ranp.metrics import EdgeScores, SegmentationScores

METHODS = ("carafe", "fade-lite", "fade")
Split = tuple[Tensor, Tensor]  # images (N, 1, H, W), labels (N, H, W)


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class Segmenter(nn.Module):
    """Three halvings and three `nn.Upsample`; `adds` says whether the encoder's features are added on the way up."""

    def __init__(self, width: int, classes: int, adds: bool = False) -> None:
        super().__init__()
        self.adds = adds
        self.encoder = nn.ModuleList([block(1, width), *(block(width, width, 2) for _ in range(3))])
        self.up = nn.ModuleList(nn.Upsample(scale_factor=2, mode="bilinear") for _ in range(3))
        self.decoder = nn.ModuleList(block(width, width) for _ in range(3))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, H, W) to logits (B, classes, H, W); H and W are multiples of 8."""
        features = [image]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        x = features.pop()
        for up, layer in zip(self.up, self.decoder, strict=True):
            x = up(x)
            skip = features.pop()
            x = layer(x + skip if self.adds else x)
        return self.head(x)  # type: ignore[no-any-return]


def generated(size: int, classes: int, noise: float, seed: int) -> tuple[Split, Split]:
    """Return 48 training and 16 test pictures of noisy discs."""
    pairs = list(data.phantom((size, size), classes=classes, batches=64, seed=seed))
    images = torch.cat([image for image, _ in pairs])
    images = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    labels = torch.cat([target for _, target in pairs])
    return (images[:48], labels[:48]), (images[48:], labels[48:])


def train(network: nn.Module, split: Split, steps: int, seed: int) -> None:
    """Take so many steps of Adam on batches of eight."""
    images, labels = split
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(steps):
        batch = torch.randperm(len(images), generator=generator)[:8]
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def draw(path: Path, image: Tensor, truth: Tensor, rows: dict[str, Tensor]) -> None:
    """Draw a picture, its labels, and what each network makes of it, wrong pixels in red."""
    figure = need("matplotlib.figure", "plots").Figure(figsize=(3 * (len(rows) + 2), 3.3), layout="constrained")
    axes = figure.subplots(1, len(rows) + 2)
    top = int(truth.max())
    axes[0].imshow(image.numpy(), cmap="gray")
    axes[0].set_title("image")
    for place, (name, labels) in zip(axes[1:], {"labels": truth, **rows}.items(), strict=True):
        place.imshow(labels.numpy(), cmap="gray", vmin=0, vmax=top)
        wrong = torch.zeros(*labels.shape, 4)
        wrong[labels != truth] = torch.tensor([1.0, 0.1, 0.1, 1.0])
        place.imshow(wrong.numpy())
        place.set_title(name)
    for place in axes:
        place.set_axis_off()
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="of the pictures, a multiple of 8")
    parser.add_argument("--width", type=int, default=16, help="channels of every level")
    parser.add_argument("--steps", type=int, default=300, help="of training, for each network")
    parser.add_argument("--noise", type=float, default=0.3, help="added to the images, whose deviation is 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(arguments)
    classes = 4
    training, (images, truth) = generated(options.size, classes, options.noise, options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        plain = Segmenter(options.width, classes)
    added = copy.deepcopy(plain)
    added.adds = True
    networks: dict[str, nn.Module] = {"bilinear": plain, "bilinear, added": added}
    networks |= {name: swap_upsampling(plain, name, example_inputs=images[:1]) for name in METHODS}

    rows = {}
    print(f"{len(training[0])} training and {len(images)} test images {tuple(images.shape[2:])}, {classes} labels")
    for name, network in networks.items():
        train(network, training, options.steps, options.seed)
        with torch.no_grad():
            rows[name] = network(images).argmax(1)
        scores, edges = SegmentationScores(classes), EdgeScores(dilations=(1,))
        for measure in (scores, edges):
            measure.update(rows[name], truth)
        count = sum(parameter.numel() for parameter in network.parameters())
        print(
            f"{name:16s} {count:7,} parameters   mIoU {scores.miou():.4f}   edge F {edges.compute()[0].f_measure:.4f}"
        )
    if options.picture:
        shown = max(range(len(truth)), key=lambda index: truth[index].unique().numel())  # the one of most labels
        draw(options.picture, images[shown, 0], truth[shown], {name: labels[shown] for name, labels in rows.items()})


if __name__ == "__main__":
    main()
