"""Soft superpixels on a grid: what a superpixel network predicts, and the SLIC-like loss it is trained with.

Source: Eqs. 4.1-4.2 of the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv
2010.04363), after Yang et al., 2020 (arXiv 2003.12929). A grid of interval D starts one superpixel per cell; q_s(p) is
the soft assignment of pixel p to the 3^n cells s around its own, n the number of spatial dimensions (9 cells in 2D;
other n are ours). Neighbours outside the grid get no share: their scores are left out of the softmax.

Channel k of a prediction is the neighbour at offset (k // 3 - 1, k % 3 - 1) in 2D, row-major in general.
"""

import functools
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError, named

_EPS = 1e-8


class Grid:
    """Cells of interval D over an image: for each of the 3^n offsets, which cell a pixel's neighbour is.

    The last cell of a side may be narrower: sizes need not be multiples of D.

    Args:
        sizes: (H, W), or any number of spatial sizes.
        interval: D in pixels.
        device: of the index tensors.

    Raises:
        UsageError: an interval below 1.
    """

    def __init__(self, sizes: tuple[int, ...], interval: int, device: torch.device | str | None = None) -> None:
        if interval < 1:
            raise UsageError(f"{named('interval', interval)}: expected at least 1 pixel")
        self.sizes = sizes
        self.interval = interval
        self.shape = tuple((size + interval - 1) // interval for size in sizes)  # not -(-s // d): ONNX truncates
        axes = [torch.arange(size, device=device) for size in sizes]
        self.coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # (n, P)
        self.own = self.coordinates // interval  # (n, P), the cell a pixel lies in
        self.limits = torch.tensor(self.shape, device=device).unsqueeze(1)  # (n, 1)

    @property
    def count(self) -> int:
        """Number of cells."""
        return torch.Size(self.shape).numel()

    def neighbours(self) -> tuple[Tensor, Tensor]:
        """Return cell indices (3^n, P), clipped to the grid, and whether each lies in it (3^n, P)."""
        indices, inside = [], []
        for offset in product((-1, 0, 1), repeat=len(self.sizes)):
            cell = self.own + torch.tensor(offset, device=self.own.device).unsqueeze(1)
            inside.append(((cell >= 0) & (cell < self.limits)).all(0))
            cell = torch.minimum(cell.clamp(min=0), self.limits - 1)
            index = cell[0]
            for axis in range(1, len(self.shape)):
                index = index * self.shape[axis] + cell[axis]
            indices.append(index)
        return torch.stack(indices), torch.stack(inside)


def soft_assignment(scores: Tensor, grid: Grid) -> Tensor:
    """Turn scores (B, 3^n, ...) into q (B, 3^n, P): a softmax over the neighbours that lie in the grid.

    Raises:
        UsageError: another number of channels than 3^n.
    """
    _check_scores(scores)
    inside = grid.neighbours()[1]
    return scores.flatten(2).masked_fill(~inside, -torch.inf).softmax(1)


def hard_assignment(scores: Tensor, interval: int) -> Tensor:
    """Return the most likely cell of every pixel as an integer superpixel map.

    Args:
        scores: (B, 3^n, ...), unnormalised or normalised: only their order counts.
        interval: D in pixels.

    Returns:
        (B, ...) int64 labels in 0 .. number of cells - 1.

    Raises:
        UsageError: another number of channels than 3^n, or an interval below 1.
    """
    _check_scores(scores)
    grid = Grid(tuple(scores.shape[2:]), interval, scores.device)
    indices, inside = grid.neighbours()
    best = scores.flatten(2).masked_fill(~inside, -torch.inf).argmax(1)  # (B, P)
    labels = indices.expand(len(scores), -1, -1).gather(1, best.unsqueeze(1))
    return labels.view(len(scores), *scores.shape[2:])


def reconstruct(values: Tensor, q: Tensor, grid: Grid) -> Tensor:
    """Pool values to the cells and spread them back: u_s = sum_p f(p) q_s(p) / sum_p q_s(p), f'(p) = sum_s u_s q_s(p).

    Args:
        values: f, (B, F, P), or (1, F, P) for all batch elements.
        q: (B, 3^n, P) as `soft_assignment` returns it; a pixel whose column is zero takes no part.
        grid: the cells.

    Returns:
        f', (B, F, P).
    """
    indices, shares = grid.neighbours()[0], q.unsqueeze(2).unbind(1)  # 3^n times (P,) and (B, 1, P)
    sums = values.new_zeros(len(q), values.shape[1], grid.count)
    sizes = values.new_zeros(len(q), 1, grid.count)
    for index, share in zip(indices, shares, strict=True):  # scatter and gather: index_select is 30 times slower here
        sums = sums.scatter_add(2, index.expand(sums.shape[:2] + index.shape), values * share)
        sizes = sizes.scatter_add(2, index.expand_as(share), share)
    means = sums / sizes.clamp(min=_EPS)
    spread = torch.zeros_like(means[..., :1])
    for index, share in zip(indices, shares, strict=True):
        spread = spread + means.gather(2, index.expand(means.shape[:2] + index.shape)) * share
    return spread


def association_loss(
    scores: Tensor,
    properties: Tensor,
    interval: int,
    compactness: float = 0.003,
    *,
    classes: int | None = None,
    ignore: int | None = None,
    reduction: str = "sum",
) -> Tensor:
    """SLIC-like loss of a superpixel network: sum_p E(f(p), f'(p)) + (m / D) ||c(p) - c'(p)||_2.

    Args:
        scores: (B, 3^n, H, W), the network's output before a softmax.
        properties: f: colours (B, F, H, W), floating, where E is the L2 norm; or labels (B, H, W), integer, where f is
            one-hot and E the cross-entropy.
        interval: D in pixels.
        compactness: m, the weight of positions; 0.003 is what Yang et al. use with labels.
        classes: number of labels; needed with labels.
        ignore: label of pixels that take no part at all.
        reduction: `"sum"` over pixels and batch (the equation), or `"mean"` over the pixels that take part.

    Returns:
        a scalar; sums over cells and coordinates are taken in float32 at least, whatever the scores are.

    Raises:
        UsageError: sizes that differ, labels outside 0 .. classes - 1, labels without `classes`, unknown reduction, a
            negative compactness, or an interval below 1.
    """
    if reduction not in ("sum", "mean"):
        raise UsageError(f"reduction={reduction!r}: expected 'sum' or 'mean'")
    if not compactness >= 0:
        raise UsageError(f"compactness={compactness}: expected at least 0")
    labelled = not properties.is_floating_point()
    _check_properties(scores, properties, labelled)
    floating = [tensor.dtype for tensor in (scores, properties) if tensor.is_floating_point()]
    scores = scores.to(functools.reduce(torch.promote_types, floating, torch.float32))
    grid = Grid(tuple(scores.shape[2:]), interval, scores.device)
    used = torch.ones_like(scores[:, 0], dtype=torch.bool).flatten(1)  # (B, P)
    if labelled:
        used = used if ignore is None else (properties != ignore).flatten(1)
        values = _one_hot(properties.flatten(1), used, classes).to(scores.dtype)
    else:
        values = properties.flatten(2).to(scores.dtype)
    q = soft_assignment(scores, grid) * used.unsqueeze(1)
    distance = _cross_entropy(values, reconstruct(values, q, grid)) if labelled else _norm(values, q, grid)
    positions = grid.coordinates.to(scores.dtype).unsqueeze(0)
    loss = ((distance + compactness / interval * _norm(positions, q, grid)) * used).sum()
    return loss / used.sum().clamp(min=1) if reduction == "mean" else loss


def _norm(values: Tensor, q: Tensor, grid: Grid) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values - reconstruct(values, q, grid), dim=1)
    return norms


def _cross_entropy(values: Tensor, reconstructed: Tensor) -> Tensor:
    return -(values * reconstructed.clamp(min=_EPS).log()).sum(1)


def _one_hot(labels: Tensor, used: Tensor, classes: int | None) -> Tensor:
    if classes is None:
        raise UsageError("classes: needed where the properties are labels")
    labels = torch.where(used, labels, 0).long()
    if labels.numel() and (int(labels.amin()) < 0 or int(labels.amax()) >= classes):
        received = f"{labels.amin()} .. {labels.amax()}"
        raise UsageError(f"properties: expected labels in 0 .. {classes - 1}, received {received}")
    return F.one_hot(labels, classes).movedim(-1, 1) * used.unsqueeze(1)  # (B, classes, P)


def _check_scores(scores: Tensor) -> None:
    dims = scores.ndim - 2
    if dims < 1 or scores.shape[1] != 3**dims:
        raise UsageError(
            f"scores: expected (B, 3^n, ...), n spatial dimensions (9 channels in 2D), received {tuple(scores.shape)}"
        )


def _check_properties(scores: Tensor, properties: Tensor, labelled: bool) -> None:
    _check_scores(scores)
    expected = (scores.shape[0], *scores.shape[2:])
    received = tuple(properties.shape) if labelled else (properties.shape[0], *properties.shape[2:])
    if received != expected:
        raise UsageError(f"properties: expected sizes {expected} besides channels, received {tuple(properties.shape)}")
