"""Search which of an encoder's features a decoder needs, on slices of a CT or on generated ones.

    python examples/connectivity.py --decoder decoder.svg --picture labels.png
    python examples/connectivity.py --image ct.nii.gz --labels organs.nii.gz

Without --image pictures are drawn: an organ, in it a small lesion, and noise. The encoder is that of a U-Net,
untrained. Every third slice is kept back; its neighbours were trained on, so the scores compare decoders and say
nothing of other patients.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ranp import models
from ranp.adapters.connectivity import connect, decoder_costs, draw, emit, every_edge, search_
from ranp.errors import need
from ranp.training import Training, train_

ORGANS = ((5,), (1,), (2, 3))  # liver, spleen, kidneys


def generated(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pictures (count, 1, size, size) and labels (count, size, size): organ 1, lesion 2."""
    rng = np.random.default_rng(seed)
    grid = np.moveaxis(np.indices((size, size)), 0, -1)

    def ball(centre: ArrayLike, radius: float) -> NDArray[np.bool_]:
        return np.asarray(np.hypot(*np.moveaxis(grid - np.asarray(centre), -1, 0)) <= radius)

    images, labels = [], []
    for _ in range(count):
        centre = size * rng.uniform(0.35, 0.65, 2)
        organ = ball(centre, size * rng.uniform(0.2, 0.3))
        lesion = ball(centre + size * rng.uniform(-0.1, 0.1, 2), size * rng.uniform(0.04, 0.09)) & organ
        outside = ball(size * rng.choice([0.12, 0.88], 2), size * rng.uniform(0.04, 0.09)) & ~organ
        images.append(organ + 0.6 * lesion + 1.6 * outside + 0.5 * rng.standard_normal((size, size)))
        labels.append(organ.astype(int) + lesion)
    return torch.tensor(np.array(images), dtype=torch.float32)[:, None], torch.tensor(np.array(labels))


def sliced(image: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Return the slices of a CT that show an organ, 96 x 96 pixels, and their labels."""
    nibabel = need("nibabel", "medical")
    values = np.clip(nibabel.load(image).get_fdata(dtype=np.float32) / 200, -1, 1)
    organs = np.asarray(nibabel.load(labels).dataobj)
    classes = np.sum([place * np.isin(organs, ids) for place, ids in enumerate(ORGANS, start=1)], axis=0)
    shown = [z for z in range(values.shape[2]) if (classes[..., z] > 0).sum() > 50]
    across, along = ((side - 96) // 2 for side in values.shape[:2])
    window = np.s_[across : across + 96, along : along + 96]
    pictures = torch.tensor(np.array([values[..., z][window] for z in shown]))[:, None]
    return pictures, torch.tensor(np.array([classes[..., z][window] for z in shown]))


def dice(network: nn.Module, images: Tensor, labels: Tensor, classes: int) -> float:
    """Return the mean Dice of the classes but the first."""
    with torch.no_grad():
        given = network.eval()(images).argmax(1)
    pairs = [((given == c), (labels == c)) for c in range(1, classes)]
    return float(np.mean([2.0 * float((a & b).sum()) / max(1, int(a.sum() + b.sum())) for a, b in pairs]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a CT in Hounsfield units")
    parser.add_argument("--labels", type=Path, help="its organs")
    parser.add_argument("--size", type=int, default=64, help="of generated pictures, a multiple of 16")
    parser.add_argument("--count", type=int, default=96, help="of generated pictures")
    parser.add_argument("--steps", type=int, default=600, help="of the search, and of the training after it")
    parser.add_argument("--width", type=int, default=16, help="channels of a stage")
    parser.add_argument("--strength", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decoder", type=Path, help="draw the decoder (.svg)")
    parser.add_argument("--picture", type=Path, help="draw labels of slices that were kept back")
    options = parser.parse_args(arguments)

    if (options.image is None) != (options.labels is None):
        parser.error("--image and --labels belong together")
    if options.image is None:
        images, labels = generated(options.count, options.size, options.seed)
    else:
        images, labels = sliced(options.image, options.labels)
    classes, kept = int(labels.max()) + 1, torch.arange(len(images)) % 3 == 2
    generator = torch.Generator().manual_seed(options.seed)
    chosen = [torch.randint(int((~kept).sum()), (8,), generator=generator) for _ in range(options.steps)]
    batches = [(images[~kept][batch], labels[~kept][batch]) for batch in chosen]
    print(f"{int((~kept).sum())} slices to train on, {int(kept.sum())} kept back, {classes} classes")

    encoder = models.build("unet2d", in_channels=1, classes=classes, base_width=8, depth=4)
    dense = connect(encoder, images[:1], classes, width=options.width, seed=options.seed)
    training = Training(steps=options.steps, lr=0.01)
    found = search_(dense, batches, F.cross_entropy, training, strength=options.strength, seed=options.seed)
    folded = emit(dense, found.mask, images[:1], init="inherit")
    fresh = emit(dense, found.mask, images[:1], seed=options.seed)
    train_(fresh, batches, F.cross_entropy, training, seed=options.seed)

    for stage, sources in found.mask.kept.items():
        print(f"stage {stage} takes {', '.join(found.mask.said(stage, source) for source in sources)}")
    print(f"largest gate dropped and smallest kept: {found.mask.gap}")
    taps, size = found.mask.features, tuple(images.shape[2:])
    for name, network, edges in (
        ("dense", dense, every_edge(len(taps))),
        ("slim, folded", folded, found.mask.kept),
        ("slim, trained anew", fresh, found.mask.kept),
    ):
        costs = decoder_costs(taps, edges, size, width=options.width, out_channels=classes)
        score = dice(network, images[kept], labels[kept], classes)
        print(f"{name:20s} {costs.params:7,} parameters {costs.macs / 1e6:7.2f} M multiply-adds  Dice {score:.3f}")
    if options.decoder:
        options.decoder.write_text(draw(found.mask))
    if options.picture:
        picture(options.picture, images[kept], labels[kept], [dense, folded, fresh], classes)


def picture(path: Path, images: Tensor, labels: Tensor, networks: list[nn.Module], classes: int) -> None:
    figure = need("matplotlib.figure", "plots").Figure(figsize=(12.5, 7.5), layout="constrained")
    rows = [len(images) // 4, len(images) // 2, 3 * len(images) // 4]
    with torch.no_grad():
        given = [network(images[rows]).argmax(1) for network in networks]
    titles = ("image", "right", "dense", "slim, folded", "slim, trained anew")
    for row, axes in enumerate(figure.subplots(3, 5)):
        for place, title, shown in zip(axes, titles, (images[rows, 0], labels[rows], *given), strict=True):
            first = title == "image"
            place.imshow(shown[row].numpy(), cmap="gray" if first else "viridis", vmin=None if first else 0,
                         vmax=None if first else classes - 1)  # fmt: skip
            place.set_title(title)
            place.set_axis_off()
    figure.savefig(path)


if __name__ == "__main__":
    main()
