"""Measures of quality: of masks, classes, mattes and disparities case by case, of the others over a whole data set."""

from ranp.metrics._boundaries import BoundaryScores
from ranp.metrics._contours import ContourScore, ContourScores
from ranp.metrics._detections import DetectionScores
from ranp.metrics._disparities import disparity_figures, not_occluded
from ranp.metrics._edges import EdgeScore, EdgeScores
from ranp.metrics._masks import mask_figures
from ranp.metrics._mattes import matte_figures
from ranp.metrics._panoptic import PanopticScores
from ranp.metrics._ranks import class_accuracy, rank_figures
from ranp.metrics._saliency import SaliencyScores
from ranp.metrics._segmentation import SegmentationScores

__all__ = [
    "BoundaryScores",
    "ContourScore",
    "ContourScores",
    "DetectionScores",
    "EdgeScore",
    "EdgeScores",
    "PanopticScores",
    "SaliencyScores",
    "SegmentationScores",
    "class_accuracy",
    "disparity_figures",
    "mask_figures",
    "matte_figures",
    "not_occluded",
    "rank_figures",
]
