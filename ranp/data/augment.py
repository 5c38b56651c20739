"""Samples changed at random while a network is trained: `--augment none|light|nnunet`.

`nnunet` has the transforms, their order and their parameters from Isensee, Jaeger, Kohl, Petersen and Maier-Hein,
"nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation" (2021), supplementary note 4:
rotation and scaling, noise, blur, brightness, contrast, low resolution, gamma, mirroring. `light` has the same ones but
for blur, contrast and low resolution, and weak. MONAI's transforms carry them out.

What differs from the publication: a patch is turned in itself, and what comes from outside is its reflection (nnU-Net
cuts a larger patch first); low resolutions are drawn up linearly in 3D and cubically in 2D (cubically in both there);
a 3D patch is anisotropic if one side is more than three times another, a 2D one more than 1.5 times, as in its code.

What depends on the data:

    labels and masks    move with the image, by nearest neighbour; values of a regression linearly
    stereo pairs        vertical mirroring alone, so that rows still correspond; intensities of both images alike
    clips               (of three dimensions, to be classified): every frame is moved and changed alike, never in time
    pictures            `light` mirrors them from left to right alone
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ranp.data._batches import Sample
from ranp.errors import UsageError, listed, named, nearest
from ranp.figures import spell_all
from ranp.options import Augmentation

Range = tuple[float, float]
Parts = list[list[Tensor]]
"""Of every image its channels, each (1, *spatial); of a clip (frames, H, W)."""


@dataclass(frozen=True)
class Strength:
    """How often each transform is drawn, and how strong it is at most.

    Args:
        moves: how often an image is turned, and how often it is scaled.
        degrees: of the turn, about every axis of an isotropic volume; None for nnU-Net's by the shape of the patch.
        scale: factors of the size of what is seen.
        noise: how often, and the variance.
        blur: how often, how often each channel then, and the deviation in voxels.
        brightness: how often, and the factor of the intensities.
        contrast: how often, and the factor; what leaves the range of the channel is clipped.
        low: how often, how often each channel then, and the zoom.
        gamma: how often, the exponent, and how often intensities are inverted for it.
    """

    moves: float
    degrees: float | None
    scale: Range
    noise: tuple[float, float]
    blur: tuple[float, float, Range]
    brightness: tuple[float, Range]
    contrast: tuple[float, Range]
    low: tuple[float, float, Range]
    gamma: tuple[float, Range, float]


STRENGTHS = {
    "light": Strength(
        0.2, 10, (0.9, 1.1), (0.15, 0.01), (0, 0, (1, 1)), (0.15, (0.9, 1.1)), (0, (1, 1)), (0, 0, (1, 1)),
        (0.15, (0.8, 1.25), 0),
    ),
    "nnunet": Strength(
        0.2, None, (0.7, 1.4), (0.15, 0.1), (0.2, 0.5, (0.5, 1.5)), (0.15, (0.7, 1.3)), (0.15, (0.65, 1.5)),
        (0.25, 0.5, (0.5, 1)), (0.15, (0.7, 1.5), 0.15),
    ),
}  # fmt: skip


def augmented(sample: Sample, kind: str, rng: np.random.Generator, task: str) -> Sample:
    """Return a sample changed at random; the given one is left as it was.

    Args:
        sample: inputs (C, *spatial) and their target, as `Dataset.draw` gives them. Inputs without spatial dimensions,
            and of whole numbers, stay as they are.
        kind: "none", "light" or "nnunet".
        rng: where all numbers come from.
        task: of `ranp.data.dataset.Task`, or "regression".

    Raises:
        UsageError: an unknown kind, or images of different sizes, which can't be moved alike.
    """
    if kind not in get_args(Augmentation):
        known = get_args(Augmentation)
        raise UsageError(f"{named('augment', kind)}: expected {listed(known)}{nearest(str(kind), known)}")
    inputs, target = sample
    places = [place for place, given in enumerate(inputs) if given.is_floating_point() and given.dim() > 2]
    if kind == "none" or not places:
        return sample
    sizes = {tuple(inputs[place].shape[1:]) for place in places}
    if len(sizes) > 1:
        raise UsageError(f"{named('augment', kind)}: images of {spell_all(sorted(sizes))} can't be moved alike")
    (size,) = sizes
    clip = task == "classification" and len(size) == 3
    spatial = size[1:] if clip else size
    parts = [list(inputs[place] if clip else inputs[place].unsqueeze(1)) for place in places]
    mapped = target.shape[target.dim() - len(size) :] == size and not clip
    truth = target.reshape(-1, *spatial) if mapped else None  # (1, *spatial), or (regions, *spatial)
    strength = STRENGTHS[kind]
    mode = "bilinear" if task == "regression" else "nearest"

    if task != "stereo" and (move := _movement(strength, spatial, rng)):
        parts = _each(parts, lambda part: move(part, "bilinear"))
        truth = truth if truth is None else move(truth, mode)
    parts = _intensities(parts, strength, rng)
    axes = _mirrored(kind, task, len(spatial), rng)
    if axes:
        dims = [axis + 1 for axis in axes]
        parts = _each(parts, lambda part: part.flip(dims))
        truth = truth if truth is None else truth.flip(dims)
    changed = dict(zip(places, parts, strict=True))
    out = tuple(
        _like(torch.stack(changed[place]), given) if place in changed else given for place, given in enumerate(inputs)
    )
    return out, target if truth is None else _like(truth, target)


def _movement(
    strength: Strength, spatial: Sequence[int], rng: np.random.Generator
) -> Callable[[Tensor, str], Any] | None:
    """Draw a turn and a scaling, and return what applies them; None where neither is drawn."""
    from monai.transforms import Affine  # importing MONAI takes seconds

    turns, scales = rng.random(2) < strength.moves
    dims, long, flat = len(spatial), max(spatial) / min(spatial), int(np.argmin(spatial))
    planar = dims == 3 and long > 3  # turned and scaled in the plane of its longer sides
    degrees = strength.degrees or (15 if dims == 2 and long > 1.5 else 180 if dims == 2 or planar else 30)
    angles = np.deg2rad(rng.uniform(-degrees, degrees, size=1 if dims == 2 else 3)) * turns
    zoom = rng.uniform(*strength.scale) if scales else 1.0
    if not (turns or scales):
        return None
    across = np.arange(dims) == flat if planar else np.zeros(dims, dtype=bool)
    if planar:
        angles = angles * across  # about the short axis alone
    factors = np.where(across, 1.0, 1 / zoom)  # of the places that are read: twice the size reads half as far
    moved = Affine(
        rotate_params=angles.tolist(), scale_params=factors.tolist(), padding_mode="reflection", image_only=True
    )
    return lambda part, mode: moved(part, mode=mode)


def _intensities(parts: Parts, strength: Strength, rng: np.random.Generator) -> Parts:
    """Change intensities; the images of a sample alike, but for their noise."""
    from monai.transforms import AdjustContrast, ScaleIntensityFixedMean  # takes seconds

    def chosen(often: tuple[float, float, Range]) -> list[float | None]:
        """Draw for each channel a value, or None; and none at all where the transform is not drawn."""
        if rng.random() >= often[0]:
            return []
        most = max(map(len, parts))
        return [rng.uniform(*often[2]) if rng.random() < often[1] else None for _ in range(most)]

    if rng.random() < strength.noise[0]:
        spread = float(np.sqrt(rng.uniform(0, strength.noise[1])))
        parts = _each(parts, lambda part: part + spread * _normal(part, rng))
    if sigmas := chosen(strength.blur):
        parts = _channels(parts, sigmas, _blurred)
    if rng.random() < strength.brightness[0]:
        factor = rng.uniform(*strength.brightness[1])
        parts = _each(parts, lambda part: part * factor)
    if rng.random() < strength.contrast[0]:
        scaled = ScaleIntensityFixedMean(
            factor=rng.uniform(*strength.contrast[1]) - 1, fixed_mean=False, preserve_range=True
        )
        parts = _each(parts, scaled)
    if zooms := chosen(strength.low):
        parts = _channels(parts, zooms, _low_resolution)
    if rng.random() < strength.gamma[0]:
        power = AdjustContrast(
            gamma=rng.uniform(*strength.gamma[1]), invert_image=bool(rng.random() < strength.gamma[2])
        )
        parts = _each(parts, power)
    return parts


def _blurred(part: Tensor, sigma: float) -> Tensor:
    from monai.transforms import GaussianSmooth  # takes seconds

    smooth = GaussianSmooth(sigma)
    return smooth(part) / smooth(torch.ones_like(part))  # it takes what is outside for zero


def _low_resolution(part: Tensor, zoom: float) -> Tensor:
    from monai.transforms import RandSimulateLowResolution  # takes seconds

    drawn_up = "bicubic" if part.dim() == 3 else "trilinear"
    fixed = RandSimulateLowResolution(prob=1, zoom_range=(zoom, zoom), upsample_mode=drawn_up)
    return fixed(part)


def _mirrored(kind: str, task: str, dims: int, rng: np.random.Generator) -> list[int]:
    """Draw the spatial axes that are mirrored, each with probability one half."""
    sideways = [dims - 1] if kind == "light" and dims == 2 else [*range(dims)]
    allowed = [0] if task == "stereo" else sideways
    return [axis for axis in allowed if rng.random() < 0.5]


def _normal(part: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw standard normal noise for a channel, (1, *spatial): the same for all frames of a clip."""
    return torch.from_numpy(rng.standard_normal((1, *part.shape[1:]))).to(part)


def _each(parts: Parts, change: Callable[[Tensor], Any]) -> Parts:
    return [[change(part) for part in image] for image in parts]


def _channels(parts: Parts, values: Sequence[float | None], change: Callable[[Tensor, float], Any]) -> Parts:
    return [
        [part if value is None else change(part, value) for part, value in zip(image, values, strict=False)]
        for image in parts
    ]


def _like(changed: Tensor, given: Tensor) -> Tensor:
    """Return a plain tensor of the shape and dtype of the given one."""
    return changed.as_subclass(Tensor).reshape(given.shape).to(given.dtype).contiguous()
