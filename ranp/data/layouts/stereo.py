"""Rectified stereo pairs and the left picture's disparities: SceneFlow, KITTI 2015, Middlebury, and plain folders.

    SceneFlow                                             KITTI 2015
        frames_cleanpass/TRAIN/A/0000/{left,right}/*.png      training/image_2/*_10.png     left
        disparity/TRAIN/A/0000/left/*.pfm                     training/image_3/*_10.png     right
        (or TEST, or SCENE/..., as Monkaa and Driving)        training/disp_occ_0/*_10.png  16 bits, pixels x 256
                                                              testing/image_2, image_3
    Middlebury                                            plain
        SCENE/im0.png, im1.png                                left/*.png, right/*.png
        SCENE/disp0.pfm (or disp0GT.pfm)                      disparity/*.pfm or *.png
        SCENE/calib.txt                                       (or {train,val,test}/left, ...)

Mayer et al., CVPR 2016, https://lmb.informatik.uni-freiburg.de/resources/datasets/SceneFlowDatasets.en.html; Menze and
Geiger, CVPR 2015, https://www.cvlibs.net/datasets/kitti; Scharstein et al., GCPR 2014, https://vision.middlebury.edu/stereo.

Pictures are read in colours and normalised by ImageNet's mean and deviation, and the same random place is cropped from
both and from the disparities, as PSMNet does (Chang and Chen, CVPR 2018). A disparity is in pixels, left x - right x;
an unknown one is inf: what a PFM holds as infinite or NaN, and 0 in a PNG.

Settings (--set-data): `mean` and `sd` (of pixels from 0 to 1); of SceneFlow `pass` (cleanpass or finalpass); of plain
folders `scale`: what the numbers of a PNG are divided by, 256 for those of 16 bits, to be given for 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.data.dataset import TESTING, TRAINING, Case, Dataset, Facts, Sample, Shape
from ranp.data.layouts._folders import by_stem, check_there, files, folders, name_of, split_of, splits
from ranp.data.layouts._pfm import read_pfm
from ranp.data.layouts._pillow import PICTURES, read_numbers, read_picture
from ranp.data.layouts._pixels import IMAGENET, Scaling, anywhere, spatial_size
from ranp.data.layouts._settings import Settings, named_setting
from ranp.errors import UsageError, named
from ranp.figures import spell

_SETTINGS = ("mean", "sd")
_SIXTEEN_BITS = 256  # pixels x 256, as KITTI's


@dataclass(frozen=True)
class Pair:
    """A left and a right picture, (H, W, 3), and the left one's disparities, (H, W) float32, inf where unknown."""

    left: NDArray[Any]
    right: NDArray[Any]
    disparity: NDArray[np.float32]


class _Stereo(Dataset[Pair]):
    """Pairs that were found; the layouts differ in where files lie."""

    task = "stereo"
    class_names: tuple[str, ...] = ()

    def __init__(self, root: Path, cases: Sequence[Case], settings: Settings) -> None:
        self.root, self.cases = root, tuple(cases)
        mean, sd = IMAGENET
        self.scaling = Scaling(settings.numbers("mean", mean), settings.numbers("sd", sd, above_zero=True))
        self.scale = settings.whole("scale", None)

    def channels(self) -> tuple[int, ...]:
        """Three of each picture: they are read in colours."""
        return 3, 3

    def classes(self) -> None:
        """None: disparities are no classes."""
        return None

    def read(self, case: Case) -> Pair:
        """Read both pictures and the disparities; all are unknown where the case has none.

        Raises:
            UsageError: a file is damaged, or of another size than the left picture.
        """
        left, right = (read_picture(file, 3) for file in case.files)
        _same_size(case.files[1], right.shape[:2], case.files[0], left.shape[:2])
        if isinstance(case.target, Path):
            disparity = self._disparity(case.target)
            _same_size(case.target, disparity.shape, case.files[0], left.shape[:2])
        else:
            disparity = np.full(left.shape[:2], np.inf, np.float32)
        return Pair(left, right, disparity)

    def draw(self, held: Pair, shapes: Sequence[Shape], rng: np.random.Generator) -> Sample:
        """Draw one crop of both pictures, (3, H, W) each, and its disparities (H, W).

        Raises:
            UsageError: shapes that are no pair's, or larger than the pictures.
        """
        patch = spatial_size(shapes, self.channels(), "a stereo pair", "256x512")
        size = held.disparity.shape
        if any(p > s for p, s in zip(patch, size, strict=True)):
            raise UsageError(f"{named('patch', spell(patch))}: larger than a stereo pair of {spell(size)}")
        place = anywhere(size, patch, rng)
        return self._sample(Pair(held.left[place], held.right[place], held.disparity[place]))

    def whole(self, held: Pair) -> Sample:
        """Return both pictures and the disparities at their full size."""
        return self._sample(held)

    def facts(self, case: Case) -> Facts:
        """Read a pair; disparities that are all unknown are a problem."""
        try:
            held = self.read(case)
        except UsageError as error:
            return Facts(problems=(str(error),))
        known = bool(np.isfinite(held.disparity).any()) or case.target is None
        problems = () if known else (f"{case.target}: every disparity is unknown; expected some that are known",)
        return Facts(shape=(3, *held.disparity.shape), problems=problems)

    def _sample(self, pair: Pair) -> Sample:
        pictures = self.scaling(pair.left), self.scaling(pair.right)
        return pictures, torch.from_numpy(pair.disparity.copy())

    def _disparity(self, file: Path) -> NDArray[np.float32]:
        if file.suffix.lower() == ".pfm":
            disparity = read_pfm(file)
            return np.where(np.isfinite(disparity), disparity, np.float32(np.inf))
        values, bits = read_numbers(file)
        scale = self.scale or (_SIXTEEN_BITS if bits == 16 else None)
        if scale is None:
            divided = f"of plain folders {named_setting('scale=...')}, by which they are divided"
            raise UsageError(f"{named('data', file)}: disparities of 8 bits; expected 16, pixels x 256, or {divided}")
        return np.where(values > 0, values / scale, np.inf).astype(np.float32)


def _same_size(file: Path, size: Sequence[int], left: Path, expected: Sequence[int]) -> None:
    if tuple(size) != tuple(expected):
        raise UsageError(f"{named('data', file)}: {spell(size)}; expected {spell(expected)}, as {left}")


def _some(cases: list[Case], path: Path, expected: str) -> list[Case]:
    if not cases:
        raise UsageError(f"{named('data', path)}: holds no stereo pair; expected {expected}")
    return cases


class SceneFlow(_Stereo):
    """FlyingThings3D, Monkaa and Driving, one or several; what lies below TEST is the testing split."""

    word: ClassVar[str] = "sceneflow"
    looks_like: ClassVar[str] = "frames_cleanpass/.../left/*.png, disparity/.../left/*.pfm"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder, or one in it, holds `frames_cleanpass` or `frames_finalpass`."""
        return bool(_renderings(path, "*pass"))

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List every left picture, in the folder itself or in one folder for each of the three parts.

        Raises:
            UsageError: no pictures, or a picture without a right one or, where there are disparities, without its own.
        """
        known = Settings(cls.word, settings, ("pass", *_SETTINGS))
        rendering = known.word("pass", "cleanpass", ("cleanpass", "finalpass"))
        cases = []
        for frames in _renderings(path, rendering):
            truths = frames.parent / "disparity"
            for left in sorted(folder for folder in frames.rglob("left") if folder.is_dir()):
                place = left.relative_to(frames)
                split = TESTING if "TEST" in place.parts else TRAINING
                for file in files(left, PICTURES):
                    right = check_there(left.parent / "right" / file.name, f"{file}, as its right picture")
                    truth = truths / place / f"{file.stem}.pfm" if truths.is_dir() else None
                    truth = truth and check_there(truth, f"{file}, as its disparities")
                    cases.append(Case(name_of(file, path), (file, right), truth, split))
        return cls(path, _some(cases, path, f"frames_{rendering}/.../left/*.png and right/*.png"), known)


def _renderings(path: Path, rendering: str) -> list[Path]:
    """Return the folders of frames in a folder, or in the folders in it."""
    try:
        return sorted(p for level in ("", "*/") for p in path.glob(f"{level}frames_{rendering}") if p.is_dir())
    except OSError:
        return []


class Kitti2015(_Stereo):
    """KITTI 2015: the first of both moments, `*_10.png`, with the disparities of occluded pixels too."""

    word: ClassVar[str] = "kitti2015"
    looks_like: ClassVar[str] = "training/{image_2,image_3,disp_occ_0}/*_10.png"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there are folders of left and right pictures, of training or of testing."""
        places = (path, path / "training", path / "testing")
        return any((place / "image_2").is_dir() and (place / "image_3").is_dir() for place in places)

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the pairs of `training` and `testing`, or of the folder itself where it is one of them.

        Raises:
            UsageError: no pairs, or a picture without a right one or, where there are disparities, without its own.
        """
        known = Settings(cls.word, settings, _SETTINGS)
        inside = [(split_of(place), place) for place in (path / "training", path / "testing") if place.is_dir()]
        cases = []
        for split, place in inside or [(split_of(path), path)]:
            pictures = files(place / "image_2", (".png",)) if (place / "image_2").is_dir() else []
            for left in (file for file in pictures if file.stem.endswith("_10")):
                right = check_there(place / "image_3" / left.name, f"{left}, as its right picture")
                truths = place / "disp_occ_0"
                truth = check_there(truths / left.name, f"{left}, as its disparities") if truths.is_dir() else None
                cases.append(Case(name_of(left, path), (left, right), truth, split or ""))
        return cls(path, _some(cases, path, cls.looks_like), known)


class Middlebury(_Stereo):
    """Middlebury's scenes of 2014 and 2021, and those of its third evaluation; `calib.txt` is not read."""

    word: ClassVar[str] = "middlebury"
    looks_like: ClassVar[str] = "SCENE/im0.png, im1.png, disp0.pfm, calib.txt"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder, or one in it, is a scene."""
        try:
            return any(
                (left.parent / "im1.png").is_file() for level in ("", "*/") for left in path.glob(f"{level}im0.png")
            )
        except OSError:
            return False

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the scenes in a folder, or the one that it is.

        Raises:
            UsageError: no scenes, or one without a right picture.
        """
        known = Settings(cls.word, settings, _SETTINGS)
        cases = []
        for scene in [path, *folders(path)]:
            if (scene / "im0.png").is_file():
                right = check_there(scene / "im1.png", f"{scene / 'im0.png'}, as its right picture")
                truths = [scene / name for name in ("disp0.pfm", "disp0GT.pfm") if (scene / name).is_file()]
                cases.append(Case(scene.name, (scene / "im0.png", right), next(iter(truths), None)))
        return cls(path, _some(cases, path, cls.looks_like), known)


class StereoFolders(_Stereo):
    """Plain folders: pictures and disparities of one name in `left/`, `right/` and `disparity/`, in splits or not."""

    word: ClassVar[str] = "stereo"
    looks_like: ClassVar[str] = "left/*.png, right/*.png, disparity/*.pfm or *.png"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there are folders of left and right pictures."""
        try:
            return path.is_dir() and any(_is_pair(place) for _, place in splits(path))
        except (UsageError, OSError):
            return False

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the left pictures, which need a right one and, where there are disparities, theirs.

        Raises:
            UsageError: no pictures, or files that have no counterpart.
        """
        known = Settings(cls.word, settings, ("scale", *_SETTINGS))
        cases = []
        for split, place in splits(path):
            if not _is_pair(place):
                raise UsageError(f"{named('data', place)}: expected {cls.looks_like}")
            left, right = (by_stem(files(place / side, PICTURES)) for side in ("left", "right"))
            truths = place / "disparity"
            known_truths = by_stem(files(truths, (".pfm", ".png"))) if truths.is_dir() else None
            _check_alike(left, right, place / "right")
            if known_truths is not None:
                _check_alike(left, known_truths, truths)
            for stem, file in left.items():
                truth = known_truths[stem] if known_truths is not None else None
                cases.append(Case(name_of(file, path), (file, right[stem]), truth, split))
        return cls(path, _some(cases, path, cls.looks_like), known)


def _is_pair(place: Path) -> bool:
    return (place / "left").is_dir() and (place / "right").is_dir()


def _check_alike(left: Mapping[str, Path], others: Mapping[str, Path], folder: Path) -> None:
    for stem, file in left.items():
        if stem not in others:
            raise UsageError(f"{named('data', folder)}: holds no {stem}.*, which {file} needs")
    for stem, file in others.items():
        if stem not in left:
            raise UsageError(
                f"{named('data', file)}: belongs to no picture; expected {stem}.* in {folder.parent / 'left'}"
            )
