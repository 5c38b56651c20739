"""Poolings that keep detail: polynomial, detail-preserving, gated and Lp pooling, in 1D, 2D and 3D.

    pool = PPool(2)                                            # alpha 70: close to max pooling
    pool = PPool(3, 2, 1, channels=64, mode="predicted")       # the published form: alpha for every window
    slim = swap_pooling(model, "p", example_inputs=image)      # a copy with other pools and the same weights

Each is a module that takes the place of torch's pools: stride, padding, dilation, ceil mode and indices mean the same.
"""

from ranp.adapters.pooling._detail import DPP
from ranp.adapters.pooling._gated import GatedPool
from ranp.adapters.pooling._lp import LpPool
from ranp.adapters.pooling._polynomial import PPool
from ranp.adapters.pooling._swap import param_groups, swap_pooling

__all__ = ["DPP", "GatedPool", "LpPool", "PPool", "param_groups", "swap_pooling"]
