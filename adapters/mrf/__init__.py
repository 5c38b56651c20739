"""Pairwise Markov random fields on images and volumes: minimise them, and train through them.

    out = mrf.trwp(unary, pairwise="potts", directions=4, iterations=5)    out.cost, out.labels
    e = mrf.energy(out.labels, unary, "potts")
    net = mrf.attach(net, mrf.MRFLayer("trwp", labels=4, learn_weights=True), edges="contrast")

Functions take costs (lower is better); `MRFLayer` takes and returns logits. Fast and differentiable: `isgmr`, `trwp`,
`sgm`. Differentiable: `mean_field`. Sequential baselines: `trws`, with a lower bound, and `icm`. Exact on chains and
trees: `dynamic`.
"""

from ranp.adapters.mrf import dynamic
from ranp.adapters.mrf._attachment import Attached, attach
from ranp.adapters.mrf._directions import steps
from ranp.adapters.mrf._edges import canny_weights, contrast_weights
from ranp.adapters.mrf._energies import energy
from ranp.adapters.mrf._layer import MRFLayer
from ranp.adapters.mrf._meanfield import MeanField, mean_field
from ranp.adapters.mrf._pairwise import (
    Pairwise,
    cauchy,
    huber,
    linear,
    potts,
    truncated_linear,
    truncated_quadratic,
)
from ranp.adapters.mrf._passing import Indices, Passed, isgmr, sgm, trwp
from ranp.adapters.mrf._sequential import Sequential, icm, trws
from ranp.adapters.mrf._stereo import birchfield_tomasi, soft_argmin

__all__ = [
    "Attached",
    "Indices",
    "MRFLayer",
    "MeanField",
    "Pairwise",
    "Passed",
    "Sequential",
    "attach",
    "birchfield_tomasi",
    "canny_weights",
    "cauchy",
    "contrast_weights",
    "dynamic",
    "energy",
    "huber",
    "icm",
    "isgmr",
    "linear",
    "mean_field",
    "potts",
    "sgm",
    "soft_argmin",
    "steps",
    "truncated_linear",
    "truncated_quadratic",
    "trwp",
    "trws",
]
