"""What may be bolted on to a network. The names below are loaded when they are first used."""

from typing import TYPE_CHECKING

from ranp.lazy import names

if TYPE_CHECKING:
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
    from ranp.adapters.jobs.fuse import load_fused
    from ranp.adapters.transparent import TransparentConv, TransparentStack, insert_transparent

_HOMES = {
    "FusedSegmenter": "ranp.adapters.fusion",
    "GridSuperpixels": "ranp.adapters.fusion",
    "LogitConsistency": "ranp.adapters.fusion",
    "SlicSuperpixels": "ranp.adapters.fusion",
    "TransparentConv": "ranp.adapters.transparent",
    "TransparentStack": "ranp.adapters.transparent",
    "association_loss": "ranp.adapters.fusion",
    "consistent_logits": "ranp.adapters.fusion",
    "fuse": "ranp.adapters.fusion",
    "hard_assignment": "ranp.adapters.fusion",
    "insert_transparent": "ranp.adapters.transparent",
    "load_fused": "ranp.adapters.jobs.fuse",
}

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
    "load_fused",
]

__getattr__, __dir__ = names(__name__, _HOMES)
