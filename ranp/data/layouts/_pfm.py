"""Portable float maps: one float32 a pixel, in either byte order, the lowest row first.

The header is three lines, `Pf`, `WIDTH HEIGHT` and a scale. Of the scale only the sign counts: negative, and the bytes
are little-endian. Its size is not applied, as no data set's own reader does (Middlebury writes -0.003922).
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranp.errors import UsageError, named

_HEADER = re.compile(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:\r\n|\s)")


def read_pfm(path: Path) -> NDArray[np.float32]:
    """Read a map of one channel as (H, W), the highest row first.

    Raises:
        UsageError: it is missing, of another format, in colours, or has more or fewer bytes than its header says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{named('data', path)}: can't be read ({error.strerror})") from None
    header = _HEADER.match(content)
    if header is None:
        raise UsageError(f"{named('data', path)}: begins with {content[:12]!r}; expected the header of a PFM file")
    kind, scale = header[1], float(header[4])
    width, height = int(header[2]), int(header[3])
    if kind != b"Pf" or not width or not height:
        what = f"{kind.decode()} of {width}x{height}"
        raise UsageError(f"{named('data', path)}: a PFM file, {what}; expected Pf, one number a pixel")
    present, expected = len(content) - header.end(), 4 * width * height
    if present != expected:
        sizes = f"{present} bytes of pixels; expected {expected} for {width}x{height}"
        raise UsageError(
            f"{named('data', path)}: a PFM file {'cut short' if present < expected else 'too long'}: {sizes}"
        )
    rows = np.frombuffer(content, "<f4" if scale < 0 else ">f4", offset=header.end()).reshape(height, width)
    return np.ascontiguousarray(rows[::-1], dtype=np.float32)
