"""Write two small folders of volumes, SCANS to train on and TEST to measure on: what docs/tutorial.md works with.

    python examples/volumes.py
    python examples/volumes.py --out data --cases 40 --size 64

Each volume has an organ (1), of which a lesion (2) is a brighter part, in noise. A structure as bright as the lesion
lies outside of the organ and is background, so that brightness alone does not tell.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranp.errors import need

SPACING = (1.5, 1.5, 2.0)  # mm


def volume(size: int, noise: float, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return an image and its labels, both (size, size, size)."""
    grid = np.moveaxis(np.indices((size,) * 3), 0, -1)

    def ball(centre: NDArray[np.float64], radii: NDArray[np.float64] | float) -> NDArray[np.bool_]:
        return np.asarray((((grid - centre) / radii) ** 2).sum(-1) <= 1)

    centre = size * rng.uniform(0.42, 0.58, 3)
    organ = ball(centre, size * rng.uniform(0.22, 0.32, 3))
    lesion = ball(centre + size * rng.uniform(-0.08, 0.08, 3), size * rng.uniform(0.08, 0.12)) & organ
    outside = ball(size * rng.choice([0.12, 0.88], 3), size * rng.uniform(0.08, 0.12)) & ~organ
    labels = organ.astype(np.uint8) + lesion
    image = 100.0 * organ + 60.0 * lesion + 160.0 * outside
    return (image + noise * rng.standard_normal(image.shape)).astype(np.float32), labels


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to write both into")
    parser.add_argument("--cases", type=int, default=12, help="to train on; a third as many are for testing")
    parser.add_argument("--size", type=int, default=40, help="side of the volumes, in voxels")
    parser.add_argument("--noise", type=float, default=40.0, help="its standard deviation; the organ is 100 bright")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    nibabel, rng = need("nibabel", "medical"), np.random.default_rng(options.seed)
    for name, cases in (("SCANS", options.cases), ("TEST", max(1, options.cases // 3))):
        for number in range(cases):
            for folder, values in zip(("images", "labels"), volume(options.size, options.noise, rng), strict=True):
                path = options.out / name / folder / f"{name.lower()}{number:02d}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(values, np.diag([*SPACING, 1.0])), path)
        print(f"wrote {options.out / name}: {cases} cases of {options.size} x {options.size} x {options.size}")


if __name__ == "__main__":
    main()
