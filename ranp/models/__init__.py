"""The built-in networks and their presets.

>>> from ranp import models
>>> models.presets("unet3d")
['shapenet-15', 'shapenet-23', 'brats-15']
>>> sum(p.numel() for p in models.build("unet3d", "brats-15").parameters())
4082309
"""

from ranp.models import networks as networks
from ranp.models.registry import (
    BuiltIn,
    Preset,
    build,
    built_in,
    default_loss,
    full_settings,
    input_shapes,
    names,
    preset,
    presets,
    register,
    spatial_dims,
)
from ranp.models.spec import resolve

__all__ = [
    "BuiltIn",
    "Preset",
    "build",
    "built_in",
    "default_loss",
    "full_settings",
    "input_shapes",
    "names",
    "preset",
    "presets",
    "register",
    "resolve",
    "spatial_dims",
]
