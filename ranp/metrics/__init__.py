"""Measures of quality: of masks and classes case by case, of disparities, of segmentations over a whole data set."""

from ranp.metrics._disparities import disparity_figures, not_occluded
from ranp.metrics._edges import EdgeScore, EdgeScores
from ranp.metrics._masks import mask_figures
from ranp.metrics._ranks import class_accuracy, rank_figures
from ranp.metrics._segmentation import SegmentationScores

__all__ = [
    "EdgeScore",
    "EdgeScores",
    "SegmentationScores",
    "class_accuracy",
    "disparity_figures",
    "mask_figures",
    "not_occluded",
    "rank_figures",
]
