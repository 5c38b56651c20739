"""How well graded edge maps meet drawn contours: ODS and OIS, as the Berkeley benchmark counts them.

Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011. At each threshold the edges are
thinned and matched one to one with the contours of every annotator, at most 0.75 % of the diagonal apart. An edge is
right if it is matched with any of them; recall is over all annotators together. ODS is the best F-measure over the
data set at one threshold, OIS that with the best threshold for each image.

Differs from the benchmark's code: the matching is one of most pairs (scipy's), not of least cost among nearly most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ranp.errors import UsageError, need


@dataclass(frozen=True)
class ContourScore:
    """Measures over a data set; NaN where nothing was drawn."""

    ods: float
    """F-measure at the best threshold for all images."""
    threshold: float
    """That threshold."""
    ois: float
    """F-measure at the best threshold for each."""


class ContourScores:
    """Running counts of matched edges, for each threshold.

    Args:
        thresholds: how many, evenly between 0 and 1; 1 is a half, for maps of 0 and 1.
        tolerance: how far apart matched pixels may be, of the diagonal.
        thin: whether edges are thinned to one pixel first.

    Raises:
        UsageError: no threshold, or a tolerance below 0.
    """

    def __init__(self, thresholds: int = 99, tolerance: float = 0.0075, *, thin: bool = True) -> None:
        if thresholds < 1 or tolerance < 0:
            raise UsageError(
                f"thresholds={thresholds}, tolerance={tolerance}: expected at least 1, and a share from 0 on"
            )
        self.thresholds = np.arange(1, thresholds + 1) / (thresholds + 1)
        self.tolerance, self.thin = tolerance, thin
        self.images: list[NDArray[np.int64]] = []  # each (T, [right, edges, met, drawn])

    def update(self, edges: Tensor, drawn: Tensor) -> None:
        """Count an image.

        Args:
            edges: (H, W), from 0 to 1.
            drawn: (A, H, W) bool, the contours of each annotator.

        Raises:
            UsageError: shapes that do not fit.
        """
        if drawn.ndim != 3 or drawn.shape[1:] != edges.shape:
            raise UsageError(
                f"drawn: expected (annotators, H, W) of edges {tuple(edges.shape)}, got {tuple(drawn.shape)}"
            )
        thin = need("skimage.morphology", "mrf").thin
        reach = self.tolerance * float(np.hypot(*edges.shape))
        graded, contours = edges.double().cpu().numpy(), drawn.bool().cpu().numpy()
        counts = np.zeros((len(self.thresholds), 4), np.int64)
        for row, threshold in zip(counts, self.thresholds, strict=True):
            marked = graded >= threshold
            marked = thin(marked) if self.thin else marked
            right = np.zeros(int(marked.sum()), bool)
            for contour in contours:
                met = matched(np.argwhere(marked), np.argwhere(contour), reach)
                right |= met
                row[2:] += met.sum(), contour.sum()
            row[:2] = right.sum(), len(right)
        self.images.append(counts)

    def compute(self) -> ContourScore:
        """Return the measures over all images so far."""
        if not self.images:
            return ContourScore(*(float("nan"),) * 3)
        counts = np.stack(self.images)  # (images, T, 4)
        total = counts.sum(0)
        scores = _f_measures(total)
        best = int(np.nan_to_num(scores, nan=-1).argmax())
        choices = np.nan_to_num(_f_measures(counts), nan=-1).argmax(1)  # of each image
        of_each = counts[np.arange(len(counts)), choices].sum(0)
        return ContourScore(float(scores[best]), float(self.thresholds[best]), float(_f_measures(of_each)))


def matched(edges: NDArray[np.int64], drawn: NDArray[np.int64], reach: float) -> NDArray[np.bool_]:
    """Say which edge pixels are matched in a largest matching one to one.

    Args:
        edges: (N, 2) positions.
        drawn: (M, 2) positions.
        reach: how far apart a pair may be.

    Returns:
        (N,).
    """
    if not len(edges) or not len(drawn):
        return np.zeros(len(edges), bool)
    spatial, sparse, graph = (need(f"scipy.{name}", "medical") for name in ("spatial", "sparse", "sparse.csgraph"))
    near = spatial.cKDTree(edges).sparse_distance_matrix(spatial.cKDTree(drawn), reach, output_type="coo_matrix")
    pairs = sparse.csr_matrix((np.ones(near.nnz), (near.row, near.col)), shape=(len(edges), len(drawn)))
    partners: NDArray[np.int64] = graph.maximum_bipartite_matching(pairs, perm_type="column")
    return partners >= 0


def _f_measures(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F of counts (..., [right, edges, met, drawn]); 0 where nothing is right, NaN where nothing was drawn."""
    right, edges, met, drawn = np.moveaxis(counts.astype(np.float64), -1, 0)
    precision, recall = right / np.maximum(edges, 1), met / np.maximum(drawn, 1)
    f: NDArray[np.float64] = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return np.where(drawn > 0, f, np.nan)
