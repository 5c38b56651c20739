"""What may be bolted on to a network."""

from ranp.adapters.association import association_loss, hard_assignment
from ranp.adapters.consistency import LogitConsistency, consistent_logits
from ranp.adapters.fusion import FusedSegmenter, fuse
from ranp.adapters.superpixels import GridSuperpixels, SlicSuperpixels
from ranp.adapters.transparent import TransparentStack, insert_transparent
from ranp.adapters.transparent_conv import TransparentConv

__all__ = [
    "FusedSegmenter",
    "GridSuperpixels",
    "LogitConsistency",
    "SlicSuperpixels",
    "TransparentConv",
    "TransparentStack",
    "association_loss",
    "consistent_logits",
    "fuse",
    "hard_assignment",
    "insert_transparent",
]
