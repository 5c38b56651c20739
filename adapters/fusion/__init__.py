"""Joining a segmentation network with superpixels: logit consistency, the mean of the logits over each superpixel."""

from ranp.adapters.fusion._association import association_loss, hard_assignment
from ranp.adapters.fusion._consistency import LogitConsistency, consistent_logits
from ranp.adapters.fusion._fuse import FusedSegmenter, fuse
from ranp.adapters.fusion._superpixels import GridSuperpixels, SlicSuperpixels

__all__ = [
    "FusedSegmenter",
    "GridSuperpixels",
    "LogitConsistency",
    "SlicSuperpixels",
    "association_loss",
    "consistent_logits",
    "fuse",
    "hard_assignment",
]
