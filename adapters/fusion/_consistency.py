"""Logit consistency: every pixel gets the mean logit of its superpixel, in time and memory of O(pixels x C).

Source: the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv 2010.04363), Eq. 4.14:
with the one-hot matrix S of N_s superpixels x N_p pixels, Y' = S^T diag(1 / row sums) S Y. The paper multiplies sparse
matrices; here the two products are a scatter and a gather, so that S never exists. The sparse form stays below as the
readable reference. Both products are linear and the operator is symmetric, so the backward pass costs the same.

The scatter mixes pixels and leaves the channel dimension alone. Sums are taken in float32 for half and bfloat16.
"""

import torch
from torch import Tensor, nn

from ranp.errors import UsageError


class LogitConsistency(nn.Module):
    """`consistent_logits` as a module without parameters: (B, C, ...) and (B, ...) integer labels -> (B, C, ...).

    Args:
        count: as in `consistent_logits`.
        ignore: as in `consistent_logits`.
    """

    def __init__(self, count: int | None = None, ignore: int | None = None) -> None:
        super().__init__()
        self.count = count
        self.ignore = ignore

    def forward(self, logits: Tensor, superpixels: Tensor) -> Tensor:
        """Return the consistent logits."""
        return consistent_logits(logits, superpixels, count=self.count, ignore=self.ignore)


def consistent_logits(
    logits: Tensor, superpixels: Tensor, *, count: int | None = None, ignore: int | None = None
) -> Tensor:
    """Give every pixel the mean logit of its superpixel.

    Beyond input and output it holds one int64 index per pixel and the table of means; with `ignore` for a moment one
    more output, with half or bfloat16 logits a float32 copy of them.

    Args:
        logits: (B, C, H, W), (B, C, D, H, W), or any (B, C, ...), floating.
        superpixels: (B, ...) integer labels, the sizes of `logits` without C. Labels are separate per batch element and
            may have any values, gaps included.
        count: where it is given, labels lie in 0 .. count - 1, and no shape depends on their values: that is what
            tracing and export need. None looks at the values.
        ignore: label of pixels that belong to no superpixel: they keep their own logits and count in no mean.

    Raises:
        UsageError: sizes that differ, labels that are not integers, or labels outside 0 .. count - 1.

    >>> consistent_logits(torch.tensor([[[1.0, 3.0, 5.0]]]), torch.tensor([[7, 7, -2]]))
    tensor([[[2., 2., 5.]]])
    """
    check_maps(logits, superpixels)
    labels, flat = superpixels.flatten(1).long(), logits.flatten(2)  # (B, P), (B, C, P)
    if flat.numel() == 0:
        return logits.clone()
    used = None if ignore is None else labels != ignore
    if used is not None:
        # Any label that a pixel in use of the same row has: the largest. (B, 1)
        in_use = labels.masked_fill(~used, torch.iinfo(labels.dtype).min).amax(1, keepdim=True)
        labels = torch.where(used, labels, in_use if count is None else 0)
    labels, count = dense_labels(labels) if count is None else (checked_labels(labels, count), count)
    if used is not None:
        labels, count = torch.where(used, labels, count), count + 1  # ignored pixels fill a cell that nobody reads
    means = _means(flat, labels, count)  # (B, C, count)
    result = means.gather(2, labels.unsqueeze(1).expand_as(flat))
    if used is not None:
        result = torch.where(used.unsqueeze(1), result, flat)
    return result.view_as(logits)


def consistent_logits_sparse(logits: Tensor, superpixels: Tensor) -> Tensor:
    """Evaluate Eq. 4.14 as it is written, with a sparse S per batch element: the reference.

    Args:
        logits: (B, C, ...), floating.
        superpixels: (B, ...) integer labels.

    Raises:
        UsageError: sizes that differ, or labels that are not integers.
    """
    check_maps(logits, superpixels)
    results = []
    for y, labels in zip(logits.flatten(2), superpixels.flatten(1), strict=True):
        rows = torch.unique(labels, return_inverse=True)[1]
        entries = torch.stack((rows, torch.arange(len(rows), device=rows.device)))
        values = torch.ones(len(rows), dtype=y.dtype, device=y.device)
        s = torch.sparse_coo_tensor(entries, values, check_invariants=False)  # (N_s, N_p)
        sums = torch.sparse.mm(s, y.T)  # (N_s, C)
        means = sums / torch.sparse.sum(s, 1).to_dense()[:, None]
        results.append(torch.sparse.mm(s.t(), means).T)
    return torch.stack(results).view_as(logits)


def dense_labels(labels: Tensor) -> tuple[Tensor, int]:
    """Renumber int64 labels (B, P) of any values into 0 .. count - 1, in each row by itself; return them and count.

    Count is that of the row with most, and no more than P. Where the values of every row span a range no wider than P
    they are only shifted (linear time, unused numbers stay empty); wider ranges are sorted.
    """
    if torch.compiler.is_compiling():  # no shape may depend on a row alone
        values, labels = torch.unique(labels, return_inverse=True)
        return labels, values.shape[0]
    low = labels.amin(1, keepdim=True)
    widest = int((labels.amax(1, keepdim=True).double() - low.double()).amax())  # an int64 difference may overflow
    if widest < labels.shape[1]:
        return labels - low, widest + 1
    labels = torch.stack([torch.unique(row, return_inverse=True)[1] for row in labels])
    return labels, int(labels.amax()) + 1


def checked_labels(labels: Tensor, count: int) -> Tensor:
    """Return the labels after checking that they lie in 0 .. count - 1 (not where they have no values).

    Raises:
        UsageError: a label outside, naming the smallest and the largest.
    """
    if not (labels.is_meta or torch.compiler.is_compiling()):
        low, high = int(labels.amin()), int(labels.amax())
        if low < 0 or high >= count:
            raise UsageError(f"superpixels: expected labels in 0 .. {count - 1}, received {low} .. {high}")
    return labels


def check_maps(logits: Tensor, superpixels: Tensor) -> None:
    """Check that integer maps (B, ...) belong to logits (B, C, ...).

    Raises:
        UsageError: sizes that differ, or labels that are not integers.
    """
    if superpixels.is_floating_point() or superpixels.is_complex() or superpixels.dtype == torch.bool:
        raise UsageError(f"superpixels: expected integer labels, received {superpixels.dtype}")
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(superpixels.shape) != expected:
        raise UsageError(
            f"superpixels: expected shape {expected}, the sizes of the logits, received {tuple(superpixels.shape)}"
        )


def _means(flat: Tensor, labels: Tensor, count: int) -> Tensor:
    accumulator = torch.promote_types(flat.dtype, torch.float32)
    index, values = labels.unsqueeze(1), flat.to(accumulator)
    sizes = values.new_zeros(len(flat), 1, count).scatter_add(2, index, values.new_ones(1).expand(index.shape))
    sums = values.new_zeros(*flat.shape[:2], count).scatter_add(2, index.expand_as(flat), values)
    return (sums / sizes.clamp(min=1)).to(flat.dtype)
