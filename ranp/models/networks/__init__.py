"""The built-in networks, one file each; importing this package registers them."""

from ranp.models.networks import deeplab, fcn8s, fpn, i3d, maskrcnn, mobilenetv2, panoptic, psm, segnet, unet

__all__ = ["deeplab", "fcn8s", "fpn", "i3d", "maskrcnn", "mobilenetv2", "panoptic", "psm", "segnet", "unet"]
