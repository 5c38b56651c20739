"""Layouts of files that people have on the disk: a file each, known by its names or called by its word."""

from typing import Any

from ranp.data.dataset import Dataset
from ranp.data.layouts import clips, pictures, stereo

__all__ = ["LAYOUTS", "clips", "pictures", "stereo"]

LAYOUTS: tuple[type[Dataset[Any]], ...] = (
    clips.UCF101,
    stereo.SceneFlow,
    stereo.Kitti2015,
    stereo.Middlebury,
    stereo.StereoFolders,
    pictures.Voc,
    pictures.Masks,
    clips.ClipFolders,
    pictures.PictureFolders,
)
"""In the order they are tried: the particular before the plain."""
