"""Frames of a video by PyAV: counted once, then any of them decoded, without holding the others.

Frames are counted in the order they are shown in. Where the container keeps the time of each (MP4, MKV, WebM), they
are counted without being decoded, and decoding begins at the key frame before the first that is asked for. An AVI
keeps none, and what is guessed for it is out of order where frames were reordered: it is decoded from its beginning.
A rotation that a phone writes beside the pixels is not applied.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp.errors import RanpError, UsageError, named, need, words_of

VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

_LACKING = 0.9  # of the frames that the header promises: fewer, and the file was cut short


@dataclass(frozen=True)
class Video:
    """A video that was looked through.

    Args:
        path: of the file.
        frames: how many it shows.
        size: (H, W) of a frame.
        times: when each is shown, in units of its stream, or None where the container does not say.
    """

    path: Path
    frames: int
    size: tuple[int, int]
    times: NDArray[np.int64] | None = None

    @classmethod
    def look_through(cls, path: Path) -> "Video":
        """Count the frames of a video.

        Raises:
            UsageError: it is missing, no video, can't be decoded, or has far fewer frames than its header says.
            MissingExtra: PyAV is not installed.
        """
        with _opened(path) as (container, stream):
            first = next(container.decode(stream), None)
            if first is None:
                raise UsageError(f"{named('data', path)}: a video without a frame that can be decoded")
            size, promised = (first.height, first.width), stream.frames
        times = None if path.suffix.lower() == ".avi" else _times(path)
        if times is not None:
            frames = len(times)
        else:
            with _opened(path) as (container, stream):
                frames = sum(1 for _ in container.decode(stream))
        if frames < _LACKING * promised:
            raise UsageError(f"{named('data', path)}: a video cut short, {frames} frames; its header says {promised}")
        return cls(path, frames, size, times)

    def decode(self, wanted: Sequence[int], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return frames by their numbers, in that order, resized: (frames, H, W, 3). Repeated ones are decoded once.

        Raises:
            UsageError: one can't be decoded.
        """
        height, width = size
        pictures: dict[int, NDArray[np.uint8]] = {}
        last, needed = max(wanted), set(wanted)
        with _opened(self.path) as (container, stream):
            for number, frame in self._from(min(wanted), container, stream):
                if number in needed:
                    resizing = {"width": width, "height": height, "interpolation": "BILINEAR"}
                    pictures[number] = frame.to_ndarray(format="rgb24", **resizing)
                if number >= last:
                    break
        if missing := sorted(needed - set(pictures)):
            raise UsageError(f"{named('data', self.path)}: frame {missing[0]} of {self.frames} can't be decoded")
        return np.stack([pictures[number] for number in wanted])

    def _from(self, start: int, container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
        """Yield frames and their numbers, from one at or before `start`."""
        if self.times is None:
            yield from enumerate(container.decode(stream))
            return
        container.seek(int(self.times[start]), stream=stream)
        frames = self._numbered(container.decode(stream))
        first = next(frames, None)
        if first is None or first[0] > start:  # the key frame that the index led to is shown after it
            container.seek(int(self.times[0]), stream=stream)
            frames = self._numbered(container.decode(stream))
        else:
            yield first
        yield from frames

    def _numbered(self, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        assert self.times is not None
        for frame in frames:
            number = int(np.searchsorted(self.times, -1 if frame.pts is None else frame.pts))
            if number < self.frames and self.times[number] == frame.pts:
                yield number, frame


def _times(path: Path) -> NDArray[np.int64] | None:
    """Return when the frames are shown, by the container's own words; None if it has none for some, or one twice."""
    with _opened(path) as (container, stream):
        told = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    times = None if None in told else np.array(sorted(told), np.int64)
    return times if times is not None and times.size and (np.diff(times) > 0).all() else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open the first video stream of a file; whatever goes wrong inside is a line about the file."""
    library = need("av", "video")
    if not path.is_file():
        raise UsageError(f"{named('data', path)}: no such file")
    try:
        with library.open(str(path)) as container:
            if not container.streams.video:
                raise UsageError(f"{named('data', path)}: holds no video; expected a stream of pictures")
            yield container, container.streams.video[0]
    except RanpError:
        raise
    except (library.error.FFmpegError, ValueError, OSError) as error:
        raise UsageError(f"{named('data', path)}: a video that can't be decoded ({words_of(error)})") from error
