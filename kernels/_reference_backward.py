"""The reverse sweeps of reference.py, written out: they need the indices p and q, not the messages.

Messages are linear in their sources once p and q are fixed, so a gradient t of message m[r, i] goes to its sources: it
is first reduced by the subtracted minimum, t[q] -= sum(t), and then entry l goes to label u = p(l) of h, to w[r, i]
with V(u, l), and to V(u, l) with w[r, i]. Chains are walked from their last node to their first, directions in reverse.

For TRWP the broadcast of h's gradient to all messages at j is kept as one gradient of S = U + sum of messages, with one
more array per direction for the terms that name a direction. For ISGMR that array is shared by a pair of opposites.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ranp.kernels.chains import Box, fronts
from ranp.kernels.reference import Spec


def backward(
    grad: Tensor, p: Tensor, q: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of unary (B, N, L), of weights (B, R, N) and of pairwise (L, L).

    Args:
        grad: gradient of the cost (B, N, L).
        p, q: the recorded indices.
        weights, pairwise: as in the forward.
        spec: as in the forward.
    """
    batch, nodes, _ = grad.shape
    full = weights.expand(batch, -1, nodes).unflatten(2, spec.shape)  # (B, R, *shape)
    reverse = _Reverse(p, q, full, pairwise, spec, grad.new_zeros(full.shape), grad.new_zeros(pairwise.shape))
    sweep = {"isgmr": _isgmr, "trwp": _trwp, "sgm": _sgm}[spec.method]
    unary = sweep(reverse, grad.contiguous().unflatten(1, spec.shape))
    return unary.flatten(1, -2), reverse.grad_weights.flatten(2), reverse.grad_pairwise


@dataclass
class _Reverse:
    """What the sweeps read and add to; as in the forward, nodes are laid out as their grid, and fronts are views."""

    p: Tensor  # (K, R, B, N, L)
    q: Tensor  # (K, R, B, N)
    weights: Tensor  # (B, R, *shape)
    pairwise: Tensor  # (L, L)
    spec: Spec
    grad_weights: Tensor  # (B, R, *shape)
    grad_pairwise: Tensor  # (L, L)

    def to_source(self, iteration: int, r: int, targets: Box, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient at h of the source and, after normalisation, at the target; add those of w and V."""
        labels = t.shape[-1]
        if self.spec.normalise:
            q = self.q[iteration, r].unflatten(1, self.spec.shape)[:, *targets].long()
            t = t.scatter_add(-1, q.unsqueeze(-1), -t.sum(-1, keepdim=True))
        p = self.p[iteration, r].unflatten(1, self.spec.shape)[:, *targets].long()  # (B, *front, L)
        label = torch.arange(labels, device=t.device)
        entry = label * labels + p if r % 2 else p * labels + label
        self.grad_weights[:, r][:, *targets] += (t * self.pairwise.flatten()[entry]).sum(-1)
        share = t * self.weights[:, r][:, *targets].unsqueeze(-1)
        self.grad_pairwise.view(-1).index_add_(0, entry.flatten(), share.flatten())
        return torch.zeros_like(t).scatter_add_(-1, p, t), t

    def fronts(self, r: int) -> Iterable[tuple[Box, Box]]:
        """Return (targets, sources) of a direction, from the ends of the chains to their beginnings."""
        return reversed(fronts(self.spec.shape, self.spec.steps[r]))


def _trwp(reverse: _Reverse, grad: Tensor) -> Tensor:
    total = grad.clone()  # gradient of S
    extra = grad.new_zeros((len(reverse.spec.steps), *grad.shape))
    for iteration in reversed(range(reverse.spec.iterations)):
        for r in reversed(range(len(reverse.spec.steps))):
            for targets, sources in reverse.fronts(r):
                t = total[:, *targets] + extra[r][:, *targets]
                h, _ = reverse.to_source(iteration, r, targets, t)
                extra[r][:, *targets] = -total[:, *targets]
                total[:, *sources] += reverse.spec.rho * h
                extra[r ^ 1][:, *sources] -= h
    return total


def _isgmr(reverse: _Reverse, grad: Tensor) -> Tensor:
    unary, total = grad.clone(), grad  # total: gradient of S after the iteration
    extra = grad.new_zeros((len(reverse.spec.steps) // 2, *grad.shape))  # on both messages of a pair
    for iteration in reversed(range(reverse.spec.iterations)):
        older, old_extra = torch.zeros_like(grad), torch.zeros_like(extra)
        for r in reversed(range(len(reverse.spec.steps))):
            fresh = total + extra[r // 2]
            for targets, sources in reverse.fronts(r):
                h, _ = reverse.to_source(iteration, r, targets, fresh[:, *targets])
                fresh[:, *sources] += h
                older[:, *sources] += h
                old_extra[r // 2][:, *sources] -= h
        unary, total, extra = unary + older, older, old_extra
    return unary


def _sgm(reverse: _Reverse, grad: Tensor) -> Tensor:
    for iteration in reversed(range(reverse.spec.iterations)):
        unary = torch.zeros_like(grad)
        for r in reversed(range(len(reverse.spec.steps))):
            fresh = grad.clone()
            for targets, sources in reverse.fronts(r):
                h, t = reverse.to_source(iteration, r, targets, fresh[:, *targets])
                unary[:, *targets] += t
                fresh[:, *sources] += h
        # Subtracting a node's minimum between iterations gets no gradient of its own: the entries of `unary` sum to 0.
        grad = unary
    return grad
