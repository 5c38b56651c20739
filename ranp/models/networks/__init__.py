"""The built-in networks, one file each; importing this package registers them."""

from ranp.models.networks import (
    colourisation,
    context,
    deconvnet,
    deeplab,
    eigen_fergus,
    fcn,
    fpn,
    hypercolumns,
    i3d,
    mobilenetv2,
    psm,
    segnet,
    ubernet,
    unet,
    zoomout,
)

__all__ = [
    "colourisation",
    "context",
    "deconvnet",
    "deeplab",
    "eigen_fergus",
    "fcn",
    "fpn",
    "hypercolumns",
    "i3d",
    "mobilenetv2",
    "psm",
    "segnet",
    "ubernet",
    "unet",
    "zoomout",
]
