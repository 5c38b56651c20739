"""Clips of videos and what they show: UCF101, and any folder of class folders.

    UCF101/                                   VIDEOS/
        ApplyEyeMakeup/v_*.avi ...                CLASS/*.mp4 ...
        ucfTrainTestlist/                     or  {train,val,test}/CLASS/*.mp4 ...
            classInd.txt
            trainlist01.txt, testlist01.txt

UCF101 is that of Soomro, Zamir and Shah, 2012, https://www.crcv.ucf.edu/data/UCF101.php; its folders of classes may lie
in `UCF-101/` beside the lists, as they are unpacked.

A sample is as many frames as the patch asks for, `stride` apart, from a random place in time; they are resized, and a
random place is cropped. The shorter side becomes 8/7 of the patch's: 128 for 112, as C3D's (Tran et al., ICCV 2015),
and 256 for 224, as I3D's (Carreira and Zisserman, CVPR 2017). MobileNetV2-3D's authors (Kopuklu et al., ICCVW 2019)
take crops of 112 at several scales. Pixels go from -1 to 1, as I3D's; theirs keep 0 to 255 and lose their mean (`mean`,
`sd`). A clip that is shorter than asked begins again from its first frame. To judge a network, clips that cover the
video vote, ten at most. Nothing is mirrored and no scale is drawn:
that is augmentation.

Settings (--set-data): `list` (of UCF101: 1, 2 or 3), `stride` (frames from one to the next, 1), `resize` (the shorter
side in pixels), `mean` and `sd` (of pixels from 0 to 1; 0.5).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ranp.data.dataset import TESTING, TRAINING, Case, Dataset, Facts, Sample, Shape
from ranp.data.layouts._folders import by_class, check_there, holds_classes, lines
from ranp.data.layouts._pixels import Scaling, anywhere, covering, middle, spatial_size
from ranp.data.layouts._settings import Settings
from ranp.data.layouts._video import VIDEOS as VIDEOS
from ranp.data.layouts._video import Video
from ranp.errors import UsageError, named, nearest

_SHOWN = 16  # frames of a whole clip
_VIEWS = 10  # clips that vote
_SETTINGS = ("stride", "resize", "mean", "sd")


class _Clips(Dataset[tuple[Video, int]]):
    """Videos of known class. What is held of one is where its frames lie, and its class."""

    task = "classification"

    def __init__(self, root: Path, cases: tuple[Case, ...], class_names: tuple[str, ...], settings: Settings) -> None:
        self.root, self.cases, self.class_names = root, cases, class_names
        self.stride = settings.whole("stride", 1)
        self.shorter = settings.whole("resize", None)
        half = (0.5, 0.5, 0.5)
        self.scaling = Scaling(settings.numbers("mean", half), settings.numbers("sd", half, above_zero=True))

    def channels(self) -> tuple[int, ...]:
        """Three: every video is read in colours."""
        return (3,)

    def classes(self) -> int:
        """Return how many classes there are."""
        return len(self.class_names)

    def read(self, case: Case) -> tuple[Video, int]:
        """Look through a video; its frames are decoded as samples are drawn.

        Raises:
            UsageError: it can't be decoded, or was cut short.
            MissingExtra: PyAV is not installed.
        """
        label = case.target if isinstance(case.target, int) else -1
        return Video.look_through(case.files[0]), label

    def draw(self, held: tuple[Video, int], shapes: Sequence[Shape], rng: np.random.Generator) -> Sample:
        """Draw one clip (3, frames, H, W) and its class.

        Raises:
            UsageError: shapes that are no clip's, or a frame that can't be decoded.
        """
        video, label = held
        count, *patch = spatial_size(shapes, self.channels(), "a clip", "16x112x112")
        start = int(rng.integers(self._spare(video, count) + 1))
        size = covering(video.size, patch, self.shorter)
        return self._clip(video, start, count, size, anywhere(size, patch, rng)), torch.tensor(label)

    def views(self, held: tuple[Video, int], shapes: Sequence[Shape]) -> Sequence[Sample]:
        """Return clips that follow each other, or evenly spaced ones where more than ten would; cropped in the middle.

        Raises:
            UsageError: as `draw`.
        """
        video, label = held
        count, *patch = spatial_size(shapes, self.channels(), "a clip", "16x112x112")
        spare = self._spare(video, count)
        number = min(_VIEWS, 1 + spare // ((count - 1) * self.stride + 1))
        starts = np.linspace(0, spare, number) if number > 1 else np.array([spare / 2])
        size = covering(video.size, patch, self.shorter)
        place = middle(size, patch)
        return [
            (self._clip(video, start, count, size, place), torch.tensor(label)) for start in starts.astype(int).tolist()
        ]

    def _spare(self, video: Video, count: int) -> int:
        """Return the last frame that a clip may begin with."""
        return max(video.frames - ((count - 1) * self.stride + 1), 0)

    def _clip(
        self, video: Video, start: int, count: int, size: tuple[int, ...], place: tuple[slice, ...]
    ) -> tuple[Tensor]:
        wanted = [(start + k * self.stride) % video.frames for k in range(count)]
        height, width = size
        return (self.scaling(video.decode(wanted, (height, width))[:, *place]),)  # of (frames, H, W, 3)

    def whole(self, held: tuple[Video, int]) -> Sample:
        """Return 16 frames spread over a video, or all where it has fewer, at its own size; and its class."""
        video, label = held
        wanted = np.linspace(0, video.frames - 1, min(_SHOWN, video.frames)).round().astype(int).tolist()
        return (self.scaling(video.decode(wanted, video.size)),), torch.tensor(label)

    def facts(self, case: Case) -> Facts:
        """Look through a video: its frames and their size."""
        try:
            video, label = self.read(case)
        except UsageError as error:
            return Facts(problems=(str(error),))
        return Facts(shape=(3, video.frames, *video.size), labels={label: 1})


class UCF101(_Clips):
    """UCF101 by one of its three lists; the training list is the training split and the test list the testing one."""

    word: ClassVar[str] = "ucf101"
    looks_like: ClassVar[str] = "ucfTrainTestlist/classInd.txt, CLASS/v_*.avi"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder holds the lists of UCF101."""
        return (path / "ucfTrainTestlist" / "classInd.txt").is_file()

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the videos of `trainlist0K.txt` and `testlist0K.txt`, and the classes of `classInd.txt`.

        Raises:
            UsageError: a list is missing, a line of it is no video of a known class, or names one that is not there.
        """
        known = Settings(cls.word, settings, ("list", *_SETTINGS))
        number = known.whole("list", 1, 1, 3)
        lists = path / "ucfTrainTestlist"
        names = _class_names(lists / "classInd.txt")
        videos = path / "UCF-101" if (path / "UCF-101").is_dir() else path
        cases = [
            case
            for word, split in (("train", TRAINING), ("test", TESTING))
            for case in _listed(lists / f"{word}list{number:02}.txt", split, videos, names)
        ]
        return cls(path, tuple(cases), names, known)


def _class_names(file: Path) -> tuple[str, ...]:
    """Read the classes, which are numbered from 1 without a gap."""
    names: list[str] = []
    for line, text in lines(file):
        number, _, name = text.partition(" ")
        if number != str(len(names) + 1) or not name.strip():
            raise UsageError(f"{named('data', file)}: line {line} is {text!r}; expected '{len(names) + 1} CLASS'")
        names.append(name.strip())
    if not names:
        raise UsageError(f"{named('data', file)}: names no class; expected lines such as '1 ApplyEyeMakeup'")
    return tuple(names)


def _listed(file: Path, split: str, videos: Path, names: Sequence[str]) -> list[Case]:
    """List the videos of a list; the number behind one, which lists for training have, must be its class's."""
    cases = []
    for line, text in lines(file):
        place, _, number = text.partition(" ")
        folder = place.partition("/")[0]
        if folder not in names or "/" not in place:
            expected = f"expected CLASS/VIDEO of a class in classInd.txt{nearest(folder, names)}"
            raise UsageError(f"{named('data', file)}: line {line} is {text!r}; {expected}")
        label = names.index(folder)
        if number and number != str(label + 1):
            raise UsageError(f"{named('data', file)}: line {line} is {text!r}; {folder} is {label + 1} in classInd.txt")
        video = check_there(videos / place, f"line {line} of {file.name}")
        cases.append(Case(place.rpartition(".")[0], (video,), label, split))
    return cases


class ClipFolders(_Clips):
    """Any folder of videos in folders of their classes."""

    word: ClassVar[str] = "clips"
    looks_like: ClassVar[str] = f"CLASS/*{VIDEOS[0]}, *{VIDEOS[1]}, ..."

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder in it holds videos."""
        return holds_classes(path, VIDEOS)

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the videos of each class; classes are numbered from 0 in the order of their names.

        Raises:
            UsageError: no folders, or one without videos.
        """
        known = Settings(cls.word, settings, _SETTINGS)
        return cls(path, *by_class(path, VIDEOS, "video"), known)


def of_files(paths: Sequence[Path], settings: Mapping[str, Any]) -> ClipFolders:
    """Return videos that are named one by one, without classes."""
    cases = tuple(Case(path.stem, (path,)) for path in paths)
    given = {key: value for key, value in settings.items() if key in _SETTINGS}
    return ClipFolders(paths[0].parent, cases, (), Settings(ClipFolders.word, given, _SETTINGS))
