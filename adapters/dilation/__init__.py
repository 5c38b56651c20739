"""Strides as dilations: the same network with the same weights, its features computed at every position."""

from ranp.adapters.dilation._dilate import Dilated, dilate, dilated

__all__ = ["Dilated", "dilate", "dilated"]
