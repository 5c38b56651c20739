"""Batches to score a network on: generated ones, and patches of the user's volumes.

Every source is an iterable of (inputs, target) that can be iterated again and gives the same batches each time. One
sample at a time is held, however many batches there are.

>>> from ranp import data
>>> image, labels = next(iter(data.phantom((16, 16, 16), channels=1, classes=4)))
>>> image.shape, labels.shape
(torch.Size([1, 1, 16, 16, 16]), torch.Size([1, 16, 16, 16]))
"""

from ranp.data import augment
from ranp.data._batches import Source
from ranp.data._generators import generated, random_like
from ranp.data._nifti import nifti
from ranp.data._pairs import stereo
from ranp.data._phantoms import phantom
from ranp.data._shapes import part_names, shapes
from ranp.data.paired import Paired, first_inputs
from ranp.data.sources import Drawing, FromFiles, open_source

__all__ = [
    "Drawing",
    "FromFiles",
    "Paired",
    "Source",
    "augment",
    "first_inputs",
    "generated",
    "nifti",
    "open_source",
    "part_names",
    "phantom",
    "random_like",
    "shapes",
    "stereo",
]
