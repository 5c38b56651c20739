"""A cohort out of one labelled volume, as raw nnU-Net data: warped, re-contrasted copies to train on, itself to test.

    python benchmarks/cohort.py t1.nii.gz tissue.nii.gz OUT --spacing 2 --groups "grey=1,white=2,other=3"
    python benchmarks/cohort.py ct.nii.gz organs.nii.gz OUT --spacing 4 --channel CT \\
        --groups "spleen=1,kidneys=2-3,liver=5,bowel=18-20,vessels=52+63-68,bones=25-33+75-78+92-115,muscles=80-89"

One person is no data set: what learns on the copies is tested on the volume that they were made from. Its tissues have
other borders, contrasts and noise than those of the copies, but it is the same body, so Dice here is higher than it
would be on other people, and serves to compare networks with each other. Whoever shows such a number says so.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, Rand3DElasticd, RandBiasFieldd, RandGaussianNoised, RandGaussianSmoothd, Spacingd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]
KEYS = ("image", "labels")
SOFT = 1.0  # voxels over which a changed contrast fades into that of the next tissue


def grouped(labels: NDArray[np.generic], groups: Mapping[str, list[int]]) -> NDArray[np.uint8]:
    """Number the groups from 1; whatever is in none is background."""
    numbers = np.zeros(labels.shape, np.uint8)
    for number, values in enumerate(groups.values(), start=1):
        numbers[np.isin(labels, values)] = number
    return numbers


def recontrasted(image: Array, labels: NDArray[np.uint8], rng: np.random.Generator) -> Array:
    """Give every label another mean and spread; at borders the changes fade into each other."""
    spread = float(image.std())
    gain, shift, weight = np.zeros_like(image), np.zeros_like(image), np.zeros_like(image)
    for label in np.unique(labels):
        inside = labels == label
        share = gaussian_filter(inside.astype(np.float32), SOFT)
        factor, mean = rng.uniform(0.8, 1.2), float(image[inside].mean())
        gain += share * factor
        shift += share * (mean * (1 - factor) + spread * rng.uniform(-0.15, 0.15))
        weight += share
    changed: Array = (image * gain + shift) / weight
    return changed


def warp(spacing: float, size: float, noise: float) -> Compose:
    """Return what bends, blurs, shades and resamples a volume and its labels; sizes in voxels of the original."""
    return Compose(
        [
            Rand3DElasticd(
                KEYS, sigma_range=(6, 9), magnitude_range=(100, 300), prob=1, rotate_range=(0.3,) * 3,
                translate_range=(0.05 * size,) * 3, scale_range=(0.15,) * 3, mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandBiasFieldd("image", prob=1, coeff_range=(0, 0.15)),
            RandGaussianSmoothd("image", *((0.2, 0.7),) * 3, prob=0.5),
            RandGaussianNoised("image", prob=1, std=noise),
            resample(spacing),
        ]
    )  # fmt: skip


def resample(spacing: float) -> Spacingd:
    """Return what brings a volume and its labels to cubes of so many millimetres."""
    return Spacingd(KEYS, (spacing,) * 3, mode=("bilinear", "nearest"))


def read_groups(text: str) -> dict[str, list[int]]:
    """Read NAME=VALUE+FIRST-LAST,NAME=..."""
    groups: dict[str, list[int]] = {}
    for part in text.split(","):
        name, values = part.split("=")
        ranges = [[int(end) for end in re.findall(r"\d+", word)] for word in values.split("+")]
        groups[name] = [value for ends in ranges for value in range(ends[0], ends[-1] + 1)]
    return groups


def make(
    image: Path, labels: Path, out: Path, groups: Mapping[str, list[int]], *, spacing: float, cases: int = 12,
    channel: str = "MRI", seed: int = 0,
) -> None:  # fmt: skip
    """Write the cohort: `cases` copies that train, and the volume itself, which validates."""
    source = nibabel.Nifti1Image.from_filename(image)
    intensities = np.asarray(source.dataobj, np.float32)
    values = grouped(np.asarray(nibabel.Nifti1Image.from_filename(labels).dataobj), groups)
    for folder in ("imagesTr", "labelsTr"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    names = [f"copy_{number:02d}" for number in range(cases)]
    bent = warp(spacing, max(values.shape), 0.03 * float(intensities.std()))
    for number, name in enumerate([*names, "original"]):
        changed, change = intensities, Compose([resample(spacing)])
        if name != "original":
            changed = recontrasted(intensities, values, np.random.default_rng((seed, number)))
            change = bent.set_random_state(seed * 10_000 + number)
        parts: Iterable[tuple[str, Any]] = zip(KEYS, (changed, values), strict=True)
        brought = {key: MetaTensor(part[None], affine=source.affine) for key, part in parts}
        whole: dict[str, MetaTensor] = change(brought)
        for key, file in (("image", f"imagesTr/{name}_0000.nii.gz"), ("labels", f"labelsTr/{name}.nii.gz")):
            written = np.asarray(whole[key][0], np.uint8 if key == "labels" else np.float32)
            nibabel.save(nibabel.Nifti1Image(written, np.asarray(whole[key].affine)), out / file)
    (out / "splits_final.json").write_text(json.dumps([{"train": names, "val": ["original"]}]))
    known = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, **{name: number for number, name in enumerate(groups, start=1)}},
        "numTraining": cases + 1, "file_ending": ".nii.gz",
        "description": f"{cases} warped and re-contrasted copies of {image.name}; it is the one case of the validation",
    }  # fmt: skip
    (out / "dataset.json").write_text(json.dumps(known, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--groups", type=read_groups, required=True)
    parser.add_argument("--spacing", type=float, required=True, help="of the cohort, in mm")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--channel", default="MRI", help="MRI or CT, which decides how intensities are scaled")
    parser.add_argument("--seed", type=int, default=0)
    make(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
