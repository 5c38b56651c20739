"""Print the published MRF energies of stereo pairs beside ours, and say which agree.

    python benchmarks/mrf_tables.py path/to/setup_and_energies.json --images tsukuba map

The JSON file names the image pairs beside it, the models, and the energies to reach after 1 and 50 iterations. Each row
shows the energy with 4 connections and, with more directions, the energy with all of them. "published" is the figure of
the thesis, which was summed in float32; "target" the exact sum of the same labelling; a cell agrees within the
tolerance of its method: none for ISGMR and SGM, 0.1 % for TRWP and mean field, 1e-5 for TRW-S.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ranp.adapters import mrf
from ranp.errors import UsageError, need

METHODS: dict[str, Callable[..., Any]] = {
    "mf": mrf.mean_field, "sgm": mrf.sgm, "trws": mrf.trws, "isgmr": mrf.isgmr, "trwp": mrf.trwp
}  # fmt: skip
TOLERANCE = {"mf": 1e-3, "sgm": 0.0, "trws": 1e-5, "isgmr": 0.0, "trwp": 1e-3}


class Row(NamedTuple):
    """One energy: what was published, what it should be exactly, and ours."""

    image: str
    method: str
    iterations: int
    connections: int
    published: float | None
    target: float
    ours: float
    seconds: float

    @property
    def deviation(self) -> float:
        """Return how far we are above the target, as a share of it."""
        return self.ours / self.target - 1

    @property
    def agrees(self) -> bool:
        """Return whether the deviation is within the method's tolerance."""
        return abs(self.deviation) <= TOLERANCE[self.method.partition("-")[0]]


def pair(folder: Path, names: list[str]) -> list[Tensor]:
    """Read the two views as (1, C, H, W)."""
    read = need("skimage.io", "mrf").imread
    return [torch.from_numpy(np.atleast_3d(read(folder / name))).permute(2, 0, 1)[None] for name in names]


def function(kind: str, truncation: float) -> mrf.Pairwise:
    """Return the pairwise function that the file calls TL or TQ; TQ's truncation is a distance."""
    return mrf.truncated_linear(truncation) if kind == "TL" else mrf.truncated_quadratic(truncation**2)


def rows(image: str, setup: dict[str, Any], folder: Path, methods: list[str], iterations: list[int]) -> Iterator[Row]:
    """Run the methods on one image pair and yield one row per energy."""
    left, right = pair(folder, setup["files"])
    unary = mrf.birchfield_tomasi(left, right, setup["labels"])
    for key, figures in setup["energies"].items():
        name = key.split()[0]
        method, directions = name.split("-")
        if name not in methods and method not in methods:
            continue
        # The published TRW-S cells of Venus belong to another function; the file has both.
        kind = "TL" if "min(|d|" in key else setup["pairwise"]
        pairwise = function(kind, setup["truncation"])
        for count in iterations:
            start = time.perf_counter()
            found = METHODS[method](unary, pairwise, setup["edge_weight"], int(directions), count)
            seconds = time.perf_counter() - start
            for connections, place in {4: 0, int(directions): 2}.items():
                ours = mrf.energy(found.labels, unary, pairwise, setup["edge_weight"], directions=connections)
                which = "E4" if connections == 4 else "En"
                published = figures.get(f"thesis_{which}_iter{count}")
                target = figures[f"iter{count}"][place]
                yield Row(image, name, count, connections, published, target, float(ours), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="setup_and_energies.json, with the images beside it")
    parser.add_argument("--images", nargs="+", default=["tsukuba", "map"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="trwp for all its directions, or trwp-4")
    parser.add_argument("--iterations", nargs="+", type=int, choices=(1, 50), default=[1, 50])
    options = parser.parse_args()
    known = json.loads(options.file.read_text())["images"]
    if unknown := [image for image in options.images if image not in known]:
        raise UsageError(f"--images {unknown[0]}: expected some of {', '.join(known)}")
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("image    method    it  conn   published      target        ours  deviation     time")
    failed = 0
    for image in options.images:
        for row in rows(image, known[image], options.file.parent, options.methods, options.iterations):
            published = "-" if row.published is None else f"{row.published:.0f}"
            mark = "ok" if row.agrees else "DIFFERS"
            failed += not row.agrees
            print(
                f"{row.image:8s} {row.method:8s} {row.iterations:3d} {row.connections:5d} {published:>11s}"
                f" {row.target:11.0f} {row.ours:11.0f} {row.deviation:+10.2e} {row.seconds:7.2f}s {mark}",
                flush=True,
            )
    raise SystemExit(f"{failed} cells differ" if failed else 0)


if __name__ == "__main__":
    main()
