"""Clean a noisy picture and fill a hole in it: labels are grey levels, a level costs its squared distance to the pixel.

python examples/denoise.py                        a generated picture
python examples/denoise.py --image noisy.png --mask mask.png --picture out.png     the mask is 0 where pixels lack
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranp.adapters import mrf
from ranp.errors import need

METHODS: dict[str, Callable[..., Any]] = {"icm": mrf.icm, "isgmr": mrf.isgmr, "trwp": mrf.trwp}


def generated(size: int, noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a picture of overlapping boxes (H, W) from 0 to 1, the noisy one, and the mask with its hole."""
    random = np.random.default_rng(seed)
    clean = np.full((size, size), 0.2)
    for _ in range(8):
        top, left = random.integers(0, size - size // 4, 2)
        height, width = random.integers(size // 6, size // 2, 2)
        clean[top : top + height, left : left + width] = random.uniform()
    mask = np.ones_like(clean)
    mask[size // 2 : size // 2 + size // 8, size // 3 : size // 3 + size // 8] = 0
    noisy = np.clip(clean + noise * random.normal(size=clean.shape), 0, 1)
    return torch.from_numpy(clean), torch.from_numpy(noisy), torch.from_numpy(mask)


def read(path: Path) -> Tensor:
    """Return a picture as grey values (H, W) from 0 to 1."""
    picture = np.atleast_3d(need("skimage.io", "mrf").imread(path))
    return torch.from_numpy(picture).double().mean(2) / 255


def unary_costs(image: Tensor, mask: Tensor, levels: int) -> Tensor:
    """Return (1, L, H, W): (label - pixel)^2 in grey levels, and nothing for any label where the mask is 0."""
    label = torch.arange(levels, dtype=torch.float32).reshape(1, levels, 1, 1)
    return (label - (levels - 1) * image.float()).square() * (mask > 0)


def psnr(image: Tensor, clean: Tensor) -> float:
    return -10 * math.log10(float((image - clean).square().mean()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--levels", type=int, default=64, help="grey levels, the labels")
    parser.add_argument("--truncation", type=float, default=8.0, help="t of min(d^2, t^2), in levels")
    parser.add_argument("--strength", type=float, default=5.0)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--size", type=int, default=96, help="of the generated picture")
    parser.add_argument("--noise", type=float, default=0.06, help="of the generated picture, where 1 is white")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(arguments)
    if options.image:
        clean, noisy = None, read(options.image)
        mask = read(options.mask) if options.mask else torch.ones_like(noisy)
    else:
        clean, noisy, mask = generated(options.size, options.noise, options.seed)

    unary = unary_costs(noisy, mask, options.levels)
    pairwise = mrf.truncated_quadratic(options.truncation**2)
    pictures = {"noisy": noisy * (mask > 0)}
    for name, method in METHODS.items():
        labels = method(unary, pairwise, options.strength, 4, options.iterations).labels
        pictures[name] = labels[0].double() / (options.levels - 1)
        energy = mrf.energy(labels, unary, pairwise, options.strength).item()
        print(f"{name:6s} energy {energy:10.0f}", end="")
        print("" if clean is None else f"   PSNR {psnr(pictures[name], clean):.2f} dB")
    if clean is not None:
        print(f"noisy  PSNR {psnr(pictures['noisy'], clean):.2f} dB, hole included")
    if options.picture:
        figure = need("matplotlib.figure", "plots").Figure(figsize=(4 * len(pictures), 4), layout="constrained")
        for axes, (name, picture) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
            axes.imshow(picture.numpy(), vmin=0, vmax=1, cmap="gray")
            axes.set_title(name)
            axes.set_axis_off()
        figure.savefig(options.picture)


if __name__ == "__main__":
    main()
