"""A contact sheet: a few samples of a data set with what they are to be: labels over them, a class, a disparity.

Of a volume one slice is shown: the one with the most labels, or the middle. With axes that are known it is axial, as
radiologists look at it: anterior up, the patient's right to the left. Else it is taken along the first axis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ranp.data.losses import IGNORED
from ranp.errors import need
from ranp.files import whole_file

FORMATS = (".png", ".pdf", ".svg")
_COLUMNS = 4
_LETTERS = 44  # of a title
_LEGEND = 30  # labels that it names
_DARKEST = 0.4  # of a labelled pixel's colour, where the picture is black
_WORDS = ("truth", "prediction")
_UNKNOWN = (0.6, 0.6, 0.6)
Array = NDArray[Any]


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Args:
        title: above it.
        picture: (H, W, 3), from 0 to 1.
        labels: (H, W), -1 where there is nothing to colour; None where the sample has none.
    """

    title: str
    picture: Array
    labels: Array | None = None


def tiles(
    name: str, inputs: Sequence[Tensor], target: Tensor | None, task: str, names: Sequence[str] = (), axes: str = ""
) -> list[Tile]:
    """Return the pictures of one sample; they hold no more of it than they show.

    Args:
        name: of the sample.
        inputs: (C, *spatial); the first is shown: of three channels the colours, else the first channel.
        target: labels (*spatial), 255 where they are ignored; of "regions" masks (R, *spatial), of "stereo" disparities
            (H, W) that are inf where unknown, of "classification" a class (). None where it has none.
        task: of these four; "" shows no target.
        names: of the classes. The first is not coloured, unless it is called something else than a background.
        axes: of a volume, as "RAS".
    """
    title = _title(name)
    image = inputs[0].numpy()
    labels = _labels(target, task, names)  # -1 where there is nothing to colour
    if image.ndim == 4:
        image, labels = _slice(image, labels, axes)
    if task == "classification" and target is not None:
        number = int(target)
        title = f"{title}\n{names[number] if number < len(names) else f'class {number}'}"
    first = Tile(title, _grey_or_colours(image), labels)
    return [first] if task != "stereo" or target is None else [first, _disparity(target.numpy())]


def compared(
    name: str,
    inputs: Sequence[Tensor],
    target: Tensor,
    prediction: Tensor,
    task: str,
    names: Sequence[str] = (),
    axes: str = "",
    *,
    grey: bool = False,
) -> list[Tile]:
    """Return the truth of one sample beside what a network says, on the same slice.

    Args:
        name: of the sample.
        inputs: as of `tiles`.
        target: as of `tiles`.
        prediction: labels (*spatial), masks (R, *spatial), disparities (H, W), or probabilities of classes (K,).
        task: as of `tiles`.
        names: as of `tiles`.
        axes: as of `tiles`.
        grey: whether disparities are grey, for which nothing has to be installed.
    """
    image = inputs[0].numpy()
    if task == "classification":
        told, right = int(prediction.argmax()), int(target)
        words = [names[number] if number < len(names) else f"class {number}" for number in (right, told)]
        middle = image if image.ndim == 3 else image[:, image.shape[1] // 2]
        return [Tile(f"{_title(name)}\nis {words[0]}, told {words[1]}", _grey_or_colours(middle), None)]
    if task == "stereo":
        pair = [_disparity(values.numpy(), grey=grey) for values in (target, prediction)]
        titles = f"{_title(name)}\ntrue {pair[0].title}", f"predicted {pair[1].title}"
        return [Tile(title, tile.picture) for title, tile in zip(titles, pair, strict=True)]
    both = [_labels(each, task, names) for each in (target, prediction.to(target.dtype))]
    flat = np.broadcast_to(image, image.shape)
    if image.ndim == 4:
        place = _place(both[0], image.shape[1:], axes)
        cuts = [_slice(image, labels, axes, place) for labels in both]
        flat, both = cuts[0][0], [labels for _, labels in cuts]
    picture = _grey_or_colours(flat)
    return [Tile(f"{_title(name)}\n{word}", picture, labels) for word, labels in zip(_WORDS, both, strict=True)]


def shown(
    name: str,
    inputs: Sequence[Tensor],
    target: Tensor,
    prediction: Tensor,
    task: str,
    names: Sequence[str] = (),
    axes: str = "",
) -> list[Tile]:
    """Return the input of one sample, its truth and what a network says; arguments as of `compared`.

    Disparities are grey. Nothing of values, nor of inputs without two or three dimensions, which are no pictures.
    """
    drawn = task in ("segmentation", "regions", "classification", "stereo")
    if not drawn or inputs[0].dim() not in (3, 4) or (task == "stereo" and inputs[0].dim() == 4):
        return []
    found = compared(name, inputs, target, prediction, task, names, axes, grey=True)
    if task == "classification":
        return found
    picture = _grey_or_colours(inputs[0].numpy()) if task == "stereo" else found[0].picture
    words = [tile.title.rpartition("\n")[2] for tile in found]
    titled = [replace(tile, title=f"{_title(name)}\n{word}") for tile, word in zip(found, words, strict=True)]
    return [Tile(f"{_title(name)}\ninput", picture), *titled]


def write_sheet(path: Path, pictures: Sequence[Tile], names: Sequence[str] = ()) -> None:
    """Draw a sheet of pictures and a legend of the labels on them.

    Args:
        path: .png, .pdf or .svg.
        pictures: one or more.
        names: of the labels; a label without a name is shown as a number.

    Raises:
        MissingExtra: matplotlib is not installed.
        UsageError: the file can't be written.
    """
    colours = _colours(pictures)
    columns = min(len(pictures), _COLUMNS)
    rows = -(-len(pictures) // columns)
    size = 3.2 * columns, 3.5 * rows + 0.3 * bool(colours)  # inches
    figure = need("matplotlib.figure", "plots").Figure(size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, tile in zip(panels, pictures, strict=False):
        axes.imshow(_coloured(tile, colours), interpolation="nearest")
        axes.set_title(tile.title, fontsize=9, parse_math=False)
    if colours:
        patch = need("matplotlib.patches", "plots").Patch
        words = {label: names[label] if label < len(names) else str(label) for label in colours}
        keys = [patch(color=colours[label], label=words[label]) for label in list(colours)[:_LEGEND]]
        more = f"{len(colours) - _LEGEND} more labels are not named" if len(colours) > _LEGEND else None
        figure.legend(
            handles=keys, loc="outside lower center", ncols=1 + columns, fontsize=9, frameon=False, title=more
        )
    with whole_file(path) as place:
        figure.savefig(place, format=path.suffix.lower().removeprefix("."), dpi=100)


def _colours(pictures: Sequence[Tile]) -> dict[int, Array]:
    """Return the colour of every label on the sheet: twenty strong ones in turn."""
    shown = sorted({label for tile in pictures if tile.labels is not None for label in np.unique(tile.labels).tolist()})
    shown = [label for label in shown if label >= 0]
    palette = need("matplotlib", "plots").colormaps["tab10" if len(shown) <= 10 else "tab20"]
    return {label: np.array(palette(place % palette.N)[:3]) for place, label in enumerate(shown)}


def _coloured(tile: Tile, colours: Mapping[int, Array]) -> Array:
    """Return a picture with the colours of its labels, as bright as the picture is."""
    mixed = tile.picture.copy()
    bright = _DARKEST + (1 - _DARKEST) * mixed.mean(axis=-1, keepdims=True)
    for label, colour in colours.items():
        inside = np.zeros(mixed.shape[:2], dtype=bool) if tile.labels is None else tile.labels == label
        mixed[inside] = (bright * colour)[inside]
    return mixed


def _labels(target: Tensor | None, task: str, names: Sequence[str]) -> Array | None:
    if target is None or task not in ("segmentation", "regions") or not target.ndim:
        return None
    values = target.numpy()
    if task == "regions":  # masks of 0 and 1, and 255; a later region covers an earlier one, as it mostly lies in it
        last: Array = np.full(values.shape[1:], -1)
        for number, mask in enumerate(values):
            last[mask == 1] = number
        return last
    first_is_coloured = bool(names) and "background" not in names[0].lower() and not names[0].isdigit()
    labels: Array = np.where((values == IGNORED) | ((values == 0) & (not first_is_coloured)), -1, values)
    return labels


def _title(name: str) -> str:
    return name if len(name) <= _LETTERS else f"...{name[3 - _LETTERS :]}"


def _place(labels: Array | None, spatial: Sequence[int], axes: str) -> tuple[int, int]:
    """Return the axis that a volume is cut across, and where: most labels are there, or the middle is."""
    upright = [place for place, letter in enumerate(axes) if letter in "SI"]
    axis = upright[0] if upright else 0
    if labels is not None and (labels >= 0).any():
        return axis, int((labels >= 0).sum(axis=tuple(k for k in range(3) if k != axis)).argmax())
    return axis, spatial[axis] // 2


def _slice(
    volume: Array, labels: Array | None, axes: str, where: tuple[int, int] | None = None
) -> tuple[Array, Array | None]:
    """Return a slice (C, H, W) of a volume (C, *spatial), and of its labels: where most of these are, or as told."""
    axis, place = _place(labels, volume.shape[1:], axes) if where is None else where
    upright = bool(axes) and axes[axis] in "SI"
    cut = volume.take(place, axis=axis + 1)
    below = None if labels is None else labels.take(place, axis=axis)
    letters = axes[:axis] + axes[axis + 1 :] if upright else ""
    if letters[:1] in ("R", "L"):
        letters = letters[::-1]
        cut, below = cut.swapaxes(1, 2), None if below is None else below.T
    flips = tuple(k for k, letter in enumerate(letters) if letter in "AR")
    return np.flip(cut, tuple(k + 1 for k in flips)), None if below is None else np.flip(below, flips)


def _grey_or_colours(image: Array) -> Array:
    """Return (C, H, W) as colours (H, W, 3): its 1st to 99th percentile from black to white."""
    chosen = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    chosen = np.nan_to_num(chosen.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = np.percentile(chosen, (1, 99))
    if high <= low:
        low, high = chosen.min(), max(chosen.max(), chosen.min() + 1)
    return np.moveaxis(np.clip((chosen - low) / (high - low), 0, 1), 0, -1)


def _disparity(values: Array, *, grey: bool = False) -> Tile:
    """Return disparities (H, W) as colours, grey where they are unknown; or as greys, black where they are."""
    known = np.isfinite(values)
    if grey and known.any():
        return Tile(_range(values[known]), np.repeat(_shares(values, known)[..., None], 3, axis=-1))
    if not known.any():
        return Tile("disparity: all unknown", np.broadcast_to(np.array(_UNKNOWN), (*values.shape, 3)))
    picture = need("matplotlib", "plots").colormaps["viridis"](_shares(values, known))[..., :3]
    picture[~known] = _UNKNOWN
    return Tile(_range(values[known]), picture)


def _shares(values: Array, known: Array) -> Array:
    """Return where disparities lie from the least to the largest that is known; 0 where they are not."""
    low, high = values[known].min(), values[known].max()
    shares: Array = np.where(known, values - low, 0) / (high - low or 1)
    return shares


def _range(values: Array) -> str:
    return f"disparity {values.min():.1f} to {values.max():.1f} px"
