"""Layouts of files that people have on the disk: a file each, known by its names or called by its word."""

from ranp.data.dataset import Dataset

LAYOUTS: tuple[type[Dataset[object]], ...] = ()
"""In the order they are tried: the particular before the plain."""
