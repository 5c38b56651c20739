"""Pictures and masks by Pillow: grey, colours, palettes, 8 and 16 bits."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp.errors import UsageError, named, need, words_of

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")

_GREY = ("1", "L", "LA", "I;16", "I;16L", "I;16B")
_DEEP = ("I;16", "I;16L", "I;16B")
_INDICES = ("1", "L", "P", *_DEEP)


def read_picture(path: Path, channels: int) -> NDArray[Any]:
    """Read a picture as (H, W, channels), of 8 bits, or 16 where it is grey and has them.

    Args:
        path: of the file.
        channels: 1 or 3; colours become grey and grey colours.

    Raises:
        UsageError: no picture, damaged, or of pixels that are neither 8 nor 16 bits.
    """
    image = _open(path)
    if image.mode in ("I", "F"):
        raise UsageError(f"{named('data', path)}: pixels of 32 bits ({image.mode}); expected 8 or 16")
    if image.mode in _DEEP:
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], channels, axis=-1)
    pixels: NDArray[np.uint8] = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def resized(pixels: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Return (H, W, C) at another size, each channel by itself; pixels are averaged where it shrinks."""
    image = need("PIL.Image", "pictures")
    shape = size[1], size[0]
    whole = pixels.dtype == np.uint8
    planes = [pixels[..., c] if whole else pixels[..., c].astype(np.float32) for c in range(pixels.shape[-1])]
    drawn = [np.asarray(image.fromarray(plane).resize(shape, image.Resampling.BILINEAR)) for plane in planes]
    return np.stack(drawn if whole else [np.rint(plane).astype(pixels.dtype) for plane in drawn], axis=-1)


def read_labels(path: Path) -> NDArray[np.int64]:
    """Read a mask as (H, W): a palette's indices, grey levels, or colours that are all grey.

    Raises:
        UsageError: no picture, damaged, or colours.
    """
    image = _open(path)
    values = np.asarray(image)
    if image.mode not in _INDICES:
        colours = values[..., : values.shape[-1] - (image.mode in ("LA", "RGBA"))] if values.ndim == 3 else None
        if colours is None or (colours != colours[..., :1]).any():
            expected = "one number a pixel, a palette's or a grey level"
            raise UsageError(f"{named('data', path)}: a mask in colours ({image.mode}); expected {expected}")
        values = colours[..., 0]
    return values.astype(np.int64)


def read_numbers(path: Path) -> tuple[NDArray[np.int64], int]:
    """Read a grey picture's numbers as (H, W), and how many bits each has.

    Raises:
        UsageError: no picture, damaged, or not one number a pixel.
    """
    image = _open(path)
    if image.mode not in (*_DEEP, "L", "I"):
        raise UsageError(f"{named('data', path)}: pixels are {image.mode}; expected one number each, of 8 or 16 bits")
    return np.asarray(image).astype(np.int64), 8 if image.mode == "L" else 16


def header(path: Path) -> tuple[int, tuple[int, int]]:
    """Return the channels, 1 or 3, and (H, W), without the pixels.

    Raises:
        UsageError: no picture.
    """
    image = _open(path, pixels=False)
    return 1 if image.mode in _GREY else 3, (image.height, image.width)


def _open(path: Path, pixels: bool = True) -> Any:
    library = need("PIL.Image", "pictures")
    if not path.is_file():
        raise UsageError(f"{named('data', path)}: no such file")
    try:
        with library.open(path) as image:
            if pixels:
                image.load()
            return image
    except Exception as error:  # a damaged file can fail anywhere in the reader
        words = f"{type(error).__name__}: {words_of(error)}"
        raise UsageError(f"{named('data', path)}: a picture that can't be read ({words})") from error
