"""How far sums may lie apart that are taken in another order: what a test of two implementations has to allow."""

import torch


def reordered(dtype: torch.dtype, terms: int) -> float:
    """Return a bound on the difference of two orders of sums, relative to the largest of them.

    Two orders of n terms differ by at most n eps times the sum of their magnitudes (Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, section 4.2), which is taken to be 8 times the largest sum; no n counts as less than
    128, as iterations sum again what was summed.
    """
    return 8 * max(terms, 128) * torch.finfo(dtype).eps
