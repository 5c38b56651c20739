"""Transparent initialisation: layers that change nothing until they are trained."""

from ranp.adapters.transparent._conv import TransparentConv
from ranp.adapters.transparent.stack import TransparentStack, insert_transparent

__all__ = ["TransparentConv", "TransparentStack", "insert_transparent"]
