"""The message passing in plain PyTorch: what the native kernels must compute, and what serves where there are none.

ISGMR and TRWP are those of Xu, Ajanthan, Vineet and Hartley (2020, https://arxiv.org/abs/1910.10892), SGM is that of
Hirschmueller (2008). Message m[r, i] comes to node i from j = i - step r; where j is outside the grid it stays 0.

    ISGMR  h = U[j] + sum of old m[d, j] over d not in {r, r^1} + new m[r, j]   all directions from the old messages
    TRWP   h = rho (U[j] + sum of m[d, j] over all d) - m[r^1, j]               direction after direction, in place
    SGM    h = new m[r, j]                                                      U[i] is added after the minimum
    m[r, i](l) = min over u of h(u) + w[r, i] V(u, l), less its minimum over l

Odd directions read V(l, u): an undirected edge keeps one matrix. Cost = U + sum of messages (SGM: the sum alone, which
is also the U of its next iteration).

Layout: unary, cost and S = U + sum of messages (B, N, L); messages (R, B, N, L); weights (B or 1, R, N or 1), stored at
the target; pairwise (L, L); p (K, R, B, N, L) the source label of each entry; q (K, R, B, N) the label subtracted.
S is summed once per iteration and kept up to date in between, in the operation order of the native code, so that both
give the same bits.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ranp.kernels.chains import Box, fronts

METHODS = ("isgmr", "trwp", "sgm")
CHUNK = 1 << 22  # elements of the largest intermediate, (B, nodes, L, L)


@dataclass(frozen=True)
class Spec:
    """What is computed, apart from the tensors.

    Args:
        method: `isgmr`, `trwp` or `sgm`.
        shape: sizes of the grid; N is their product.
        steps: one per direction, opposite ones adjacent.
        iterations: K.
        rho: TRWP's factor; the others ignore it.
        last: among equal candidates record the largest label, as the authors' code does, else the smallest.
        normalise: subtract the minimum of each message (and, between the iterations of SGM, of each node's cost).
        window: distance from which V is constant and maximal, or 0 where no such is known.
        record: keep p and q for the backward.
    """

    method: str
    shape: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    iterations: int
    rho: float = 0.5
    last: bool = False
    normalise: bool = True
    window: int = 0
    record: bool = True


class Result(NamedTuple):
    """What a forward leaves; the indices are empty unless recorded, and q is empty where nothing is subtracted."""

    cost: Tensor  # (B, N, L)
    labels: Tensor  # (B, N) int64
    messages: Tensor  # (R, B, N, L)
    p: Tensor  # (K, R, B, N, L) uint8 or int16
    q: Tensor  # (K, R, B, N)


def index_dtype(labels: int) -> torch.dtype:
    """Return the type of p and q: one byte up to 256 labels, two above."""
    return torch.uint8 if labels <= 256 else torch.int16


def empty_indices(spec: Spec, batch: int, nodes: int, labels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return uninitialised p and q of the sizes the spec asks for, K R N (L + 1) entries in all."""
    lead = (spec.iterations, len(spec.steps), batch, nodes) if spec.record else (0, 0, 0, 0)
    dtype = index_dtype(labels)
    p = torch.empty((*lead, labels), dtype=dtype, device=like.device)
    q = torch.empty(lead if spec.normalise else (0, 0, 0, 0), dtype=dtype, device=like.device)
    return p, q


def forward(unary: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec) -> Result:
    """Run the iterations; shapes as in the module's docstring."""
    batch, nodes, labels = unary.shape
    p, q = (indices.zero_() for indices in empty_indices(spec, batch, nodes, labels, unary))
    start = unary.clone(memory_format=torch.contiguous_format).unflatten(1, spec.shape)
    messages = unary.new_zeros((len(spec.steps), *start.shape))
    edges = weights.expand(-1, -1, nodes).unflatten(2, spec.shape)
    state = _State(start, edges, pairwise, spec, start.clone(), messages, p, q)
    sweep = {"isgmr": _sweep_isgmr, "trwp": _sweep_trwp, "sgm": _sweep_sgm}[spec.method]
    for iteration in range(spec.iterations):
        sweep(state, iteration)
    cost = state.total.flatten(1, -2)
    return Result(cost, cost.argmin(-1), state.messages.flatten(2, -2), p, q)


@dataclass
class _State:
    """What the sweeps work on, with the nodes laid out as the grid they are: fronts are views of it."""

    unary: Tensor  # (B, *shape, L)
    weights: Tensor  # (B or 1, R, *shape)
    pairwise: Tensor  # (L, L)
    spec: Spec
    total: Tensor  # (B, *shape, L)
    messages: Tensor  # (R, B, *shape, L)
    p: Tensor  # (K, R, B, N, L)
    q: Tensor  # (K, R, B, N)


def _sweep_trwp(state: _State, iteration: int) -> None:
    if iteration:  # rounding would pile up in S over many iterations
        state.total = state.unary.clone()
        for messages in state.messages:
            state.total += messages
    for r, step in enumerate(state.spec.steps):
        own, opposite = state.messages[r], state.messages[r ^ 1]
        for targets, sources in fronts(state.spec.shape, step):
            h = state.spec.rho * state.total[:, *sources] - opposite[:, *sources]  # (B, *front, L)
            fresh = _message(state, iteration, r, targets, h)
            state.total[:, *targets] -= own[:, *targets]
            state.total[:, *targets] += fresh
            own[:, *targets] = fresh


def _sweep_isgmr(state: _State, iteration: int) -> None:
    new, total = torch.zeros_like(state.messages), state.unary.clone()
    for r, step in enumerate(state.spec.steps):
        even = r & ~1
        base = state.total - state.messages[even] - state.messages[even + 1]
        for targets, sources in fronts(state.spec.shape, step):
            h = base[:, *sources] + new[r][:, *sources]
            new[r][:, *targets] = _message(state, iteration, r, targets, h)
        total += new[r]
    state.messages, state.total = new, total


def _sweep_sgm(state: _State, iteration: int) -> None:
    unary = state.total
    if state.spec.normalise and iteration:
        unary = unary - unary.amin(-1, keepdim=True)
    state.messages, total = torch.zeros_like(state.messages), torch.zeros_like(unary)
    for r, step in enumerate(state.spec.steps):
        own = state.messages[r]
        for targets, sources in fronts(state.spec.shape, step):
            own[:, *targets] = _message(state, iteration, r, targets, own[:, *sources], unary[:, *targets])
        total += own
    state.total = total


def _message(state: _State, iteration: int, r: int, targets: Box, h: Tensor, unary: Tensor | None = None) -> Tensor:
    """Return the messages (B, *front, L) of one front, and record their indices."""
    spec, labels = state.spec, h.shape[-1]
    size = max(1, CHUNK // max(1, h.shape[0] * labels * labels))
    parts = torch.split(h.flatten(1, -2), size, 1)  # (B, F, L) each
    weights = torch.split(state.weights[:, r][:, *targets].flatten(1), size, 1)  # (B or 1, F) each
    matrix = state.pairwise.T if r % 2 else state.pairwise
    values, sources = [], []
    for part, weight in zip(parts, weights, strict=True):
        candidates = part[..., None] + weight[..., None, None] * matrix  # (B, F, u, l)
        source = _argmin(candidates, spec.last, -2)
        sources.append(source)
        values.append(candidates.gather(-2, source.unsqueeze(-2)).squeeze(-2))
    message, source = (torch.cat(parts, 1).view(h.shape) for parts in (values, sources))
    if unary is not None:
        message = unary + message
    if spec.record:
        state.p[iteration, r].unflatten(1, spec.shape)[:, *targets] = source.to(state.p.dtype)
    if spec.normalise:
        least = _argmin(message, spec.last, -1)
        if spec.record:
            state.q[iteration, r].unflatten(1, spec.shape)[:, *targets] = least.to(state.q.dtype)
        message = message - message.gather(-1, least.unsqueeze(-1))
    return message


def _argmin(values: Tensor, last: bool, dim: int) -> Tensor:
    """Return the smallest, or the largest, index of the minimum; `argmin` alone promises the smallest."""
    if not last:
        return values.argmin(dim)
    return values.shape[dim] - 1 - values.flip(dim).argmin(dim)
