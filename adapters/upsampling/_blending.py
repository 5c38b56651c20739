"""Weighted sums of coarse neighbours: what CARAFE and FADE do with the kernels they predict.

In every run `ranp::reassemble` does it, whose native code never builds the K^n neighbours of a position
(`ranp.kernels.reassembly`). A network that is captured for ONNX or torch.export gets the same sums as PyTorch's own
operators, one multiplication and addition per tap, so that the file needs nothing of ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ranp.adapters.upsampling._pruning import channels_pass as channels_pass  # registers the rule
from ranp.adapters.upsampling._sizes import is_exporting
from ranp.kernels import reassembly_reference
from ranp.kernels.reassembly import reassemble


def blend(features: Tensor, kernels: Tensor, kernel_size: Sequence[int], *, renormalise: bool = False) -> Tensor:
    """Return (B, C, *fine), of the dtype of the features; half precision is summed in float32.

    Args:
        features: (B, C, *coarse).
        kernels: (B, M, *fine), M the product of `kernel_size`; positive, with a sum of 1 over M, as a softmax is.
        kernel_size: odd, one per spatial dimension.
        renormalise: divide by the sum of the weights that lie inside. Without it, as published, features fade towards
            the border, outside of which they are 0.
    """
    wide = torch.float64 if features.dtype == torch.float64 else torch.float32
    values, weights = features.to(wide), kernels.to(wide)
    out = _reassembled(values, weights, kernel_size)
    if renormalise:
        inside = _reassembled(values.new_ones(values.shape[0], 1, *values.shape[2:]), weights, kernel_size)
        out = out / inside
    return out.to(features.dtype)


def _reassembled(values: Tensor, weights: Tensor, kernel_size: Sequence[int]) -> Tensor:
    if is_exporting():
        return reassembly_reference.forward(values, weights, kernel_size)
    out: Tensor = reassemble(values, weights, list(kernel_size))
    return out
