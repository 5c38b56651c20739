"""Match a stereo pair: Birchfield-Tomasi costs, six ways to minimise the energy, and a sub-pixel disparity.

python examples/stereo.py                                  a generated pair, whose disparity is known
python examples/stereo.py --left l.png --right r.png --labels 16 --scale 2 --strength 20 --picture out.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ranp import data
from ranp.adapters import mrf
from ranp.errors import need

METHODS = {
    "winner takes all": None,
    "icm": mrf.icm,
    "mean field": mrf.mean_field,
    "sgm": mrf.sgm,
    "isgmr": mrf.isgmr,
    "trwp": mrf.trwp,
    "trws": mrf.trws,
}


def generated(labels: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return two noisy 8-bit views (1, 3, H, W) of one texture, and the disparity (1, H, W) in pixels."""
    (left, right), disparity = next(iter(data.stereo((96, 4 * labels), maxdisp=labels, batches=1, seed=seed)))
    noise = torch.Generator().manual_seed(seed)
    views = [128 + 40 * view + 8 * torch.randn(view.shape, generator=noise) for view in (left, right)]
    return views[0].clamp(0, 255), views[1].clamp(0, 255), disparity


def read(path: Path) -> Tensor:
    """Return an 8-bit picture as (1, C, H, W)."""
    picture = np.atleast_3d(need("skimage.io", "mrf").imread(path))
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def draw(path: Path, maps: dict[str, Tensor], labels: int) -> None:
    figure = need("matplotlib.figure", "plots").Figure(figsize=(4 * len(maps), 4), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        axes.imshow(values[0].numpy(), vmin=0, vmax=labels - 1, cmap="viridis")
        axes.set_title(name)
        axes.set_axis_off()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--left", type=Path)
    parser.add_argument("--right", type=Path)
    parser.add_argument("--labels", type=int, default=32)
    parser.add_argument("--scale", type=float, default=2.0, help="truncation t of min(d, t)")
    parser.add_argument("--strength", type=float, default=10.0)
    parser.add_argument("--directions", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(arguments)
    if options.left and options.right:
        left, right, truth = read(options.left), read(options.right), None
    else:
        left, right, truth = generated(options.labels, options.seed)

    unary = mrf.birchfield_tomasi(left, right, options.labels)
    model = (mrf.truncated_linear(options.scale), options.strength, options.directions)
    maps = {}
    for name, method in METHODS.items():
        found = None if method is None else method(unary, *model, options.iterations)
        maps[name] = unary.argmin(1) if found is None else found.labels
        energy = mrf.energy(maps[name], unary, *model[:2], directions=options.directions).item()
        print(f"{name:17s} energy {energy:12.0f}{error(maps[name].float(), truth)}")
        if name == "trwp" and found is not None:
            maps["trwp, regressed"] = mrf.soft_argmin(found.cost, temperature=options.strength / 2)
            print(f"{'  regressed':17s} {'':19s}{error(maps['trwp, regressed'], truth)}")
    if options.picture:
        draw(options.picture, maps, options.labels)


def error(disparity: Tensor, truth: Tensor | None) -> str:
    """Return the mean error and the share of pixels off by more than one, where the truth is known."""
    if truth is None:
        return ""
    off = (disparity - truth).abs()
    return f"   mean error {off.mean().item():.3f} px, off by more than 1: {(off > 1).float().mean().item():.2%}"


if __name__ == "__main__":
    main()
