"""Measures of segmentation quality, counted over a whole data set."""

from ranp.metrics.edges import EdgeScore, EdgeScores
from ranp.metrics.segmentation import SegmentationScores

__all__ = ["EdgeScore", "EdgeScores", "SegmentationScores"]
