"""What may be bolted on to a network."""

from ranp.adapters.fusion import (
    FusedSegmenter,
    GridSuperpixels,
    LogitConsistency,
    SlicSuperpixels,
    association_loss,
    consistent_logits,
    fuse,
    hard_assignment,
)
from ranp.adapters.transparent import TransparentConv, TransparentStack, insert_transparent

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
