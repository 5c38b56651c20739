"""Layouts of files that people have on the disk: a file each, known by its names or called by its word."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ranp.data.dataset import Dataset
from ranp.data.layouts import brats, clips, decathlon, nnunet, pictures, shapenet, stereo
from ranp.data.volumes import Volumes
from ranp.errors import UsageError, listed, named, nearest

__all__ = ["LAYOUTS", "brats", "clips", "decathlon", "nnunet", "open_dataset", "pictures", "shapenet", "stereo"]

LAYOUTS: tuple[type[Dataset[Any]], ...] = (
    nnunet.NNUNet,
    nnunet.Preprocessed,
    decathlon.Decathlon,
    brats.BraTS,
    shapenet.ShapeNetPart,
    clips.UCF101,
    stereo.SceneFlow,
    stereo.Kitti2015,
    stereo.Middlebury,
    stereo.StereoFolders,
    pictures.Voc,
    pictures.Masks,
    clips.ClipFolders,
    pictures.PictureFolders,
    Volumes,
)
"""In the order they are tried: the particular before the plain."""


def open_dataset(source: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Dataset[Any]:
    """List the cases of what lies at a path, as the layout it is known by, or the one that is named.

    Args:
        source: PATH, or LAYOUT:PATH, whose files need not look like the layout's. A path that exists is a path, also
            with a colon in it.
        settings: --set-data, of the layout's own names.

    Raises:
        UsageError: there is no such path or layout, no layout knows the path, or what the layout itself refuses.
    """
    word, colon, rest = source.partition(":")
    plain = Path(source).expanduser()
    if plain.exists() or not colon:
        path, layout = plain, None
    else:
        path, layout = Path(rest).expanduser(), next((each for each in LAYOUTS if each.word == word), None)
        if layout is None:
            words = [each.word for each in LAYOUTS]
            expected = f"expected {listed(words)}" if words else "none is known"
            raise UsageError(f"{named('data', source)}: no layout is called {word!r}; {expected}{nearest(word, words)}")
        if not rest:
            raise UsageError(f"{named('data', source)}: names nothing behind the colon; expected {word}:PATH")
    if not path.exists():
        raise UsageError(f"{named('data', source)}: no file or folder {path}")
    layout = layout or next((each for each in LAYOUTS if each.recognises(path)), None)
    if layout is None:
        looked_for = "; ".join(f"{each.word} ({each.looks_like})" for each in LAYOUTS)
        what = f"{named('data', source)}: of no layout that is known"
        raise UsageError(f"{what}; looked for {looked_for}; name the one it is: LAYOUT:{path}")
    return layout.open(path, settings)
