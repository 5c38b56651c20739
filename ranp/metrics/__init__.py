"""Measures of segmentation quality, counted over a whole data set."""

from ranp.metrics._edges import EdgeScore, EdgeScores
from ranp.metrics._segmentation import SegmentationScores

__all__ = ["EdgeScore", "EdgeScores", "SegmentationScores"]
