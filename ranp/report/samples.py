"""Sample pictures that a training leaves in its run, small and without the data they are of; and how a page shows them.

They are kept as 8-bit colours and labels in safetensors, so that a training needs nothing more; the page shows PNG.
"""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ranp.errors import MissingExtra, UsageError, need
from ranp.report._markup import Content, Html, element, joined
from ranp.report.contact import Tile

_LONGEST = 384  # pixels of a side that are kept
_DARKEST = 0.35  # of a labelled pixel's colour, where the picture is black
_COLOURS = (  # Okabe and Ito, "Color Universal Design" (2008), without black; then darker ones of the same
    "#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#8ecae6", "#b07d00", "#006b4f",
    "#a69d2d", "#8f4d73", "#933f00", "#004a78",
)  # fmt: skip


def packed(tiles: Sequence[Tile], names: Sequence[str]) -> bytes:
    """Return pictures as the bytes of a safetensors file.

    Args:
        tiles: one after the other; each names its sample in the first line of its title, and itself in the second.
        names: of the labels.
    """
    tensors = {}
    for number, tile in enumerate(tiles):
        every = -(-max(tile.picture.shape[:2]) // _LONGEST)
        picture = (tile.picture[::every, ::every] * 255).round().astype(np.uint8)
        tensors[f"picture {number}"] = torch.from_numpy(np.ascontiguousarray(picture))
        if tile.labels is not None:
            labels = tile.labels[::every, ::every].astype(np.int16)
            tensors[f"labels {number}"] = torch.from_numpy(np.ascontiguousarray(labels))
    said = {"titles": [tile.title for tile in tiles], "names": list(names)}
    return save(tensors, metadata={"samples": json.dumps(said)})


def unpacked(path: Path) -> tuple[list[Tile], list[str]]:
    """Return pictures, and the names of their labels, of a file of `packed` bytes.

    Raises:
        UsageError: it is damaged.
    """
    try:
        with safe_open(path, "np") as file:
            said = json.loads(file.metadata()["samples"])
            known = set(file.keys())
            tiles = [
                Tile(
                    title,
                    file.get_tensor(f"picture {number}") / 255,
                    file.get_tensor(name) if (name := f"labels {number}") in known else None,
                )
                for number, title in enumerate(said["titles"])
            ]
            return tiles, list(said["names"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from None


def pictures(path: Path) -> Html:
    """Return the pictures of a file, a row for each sample, and a legend; where Pillow is missing, how to get it."""
    tiles, names = unpacked(path)
    try:
        need("PIL.Image", "pictures")
    except MissingExtra as error:
        return element("p", f"Pictures are shown where Pillow is: {error}.", class_="dim")
    labels = sorted({int(v) for tile in tiles if tile.labels is not None for v in np.unique(tile.labels)} - {-1})
    colours = {label: _COLOURS[place % len(_COLOURS)] for place, label in enumerate(labels)}
    rows: dict[str, list[Content]] = {}
    for tile in tiles:
        sample, _, word = tile.title.partition("\n")
        image = element("img", src=_url(tile, colours), alt=f"{sample}: {word}")
        rows.setdefault(sample, []).append(element("figure", image, element("figcaption", word)))
    keys = [
        element("span", element("i", class_="key", style=f"background:{colour}"), _name(label, names))
        for label, colour in colours.items()
    ]
    return joined(
        *(joined(element("h3", sample), element("div", figures, class_="shots")) for sample, figures in rows.items()),
        element("p", *keys, class_="dim legend") if keys else None,
    )


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)


def _url(tile: Tile, colours: dict[int, str]) -> str:
    """Return a picture with the colours of its labels, as bright as the picture is, as a PNG in a URL."""
    mixed = tile.picture.copy()
    bright = _DARKEST + (1 - _DARKEST) * mixed.mean(axis=-1, keepdims=True)
    for label, colour in colours.items():
        inside = np.zeros(mixed.shape[:2], dtype=bool) if tile.labels is None else tile.labels == label
        mixed[inside] = (bright * np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]))[inside]
    file = io.BytesIO()
    image: Any = need("PIL.Image", "pictures").fromarray((mixed * 255).round().astype(np.uint8))
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
