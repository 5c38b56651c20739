"""The sequential baselines, TRW-S and ICM: slower than message passing over whole lines, not differentiable.

TRW-S is Kolmogorov's ("Convergent tree-reweighted message passing for energy minimization", PAMI 2006): row-major
order, one message per edge, gamma = 1 / max(earlier, later neighbours), a forward and a backward pass per iteration,
then labels by a forward sweep. Its lower bound never decreases, and no labelling has less energy. ICM (Besag 1986)
gives each node in turn the best label given its neighbours'; it stops in the nearest local minimum and is not exact,
not even on chains. Both run in float64 on the CPU, whatever the device and precision of the costs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ranp.adapters.mrf._energies import field_energy
from ranp.adapters.mrf._field import Field, PairwiseLike, build_field
from ranp.adapters.mrf._passing import Weights, check_iterations, checked_unary
from ranp.kernels.sequential import Grid, beliefs, conditional_costs, icm_sweep, trws_sweep


class Sequential(NamedTuple):
    """What a sequential method returns, on the device of the unary costs."""

    cost: Tensor  # (B, L, *spatial), float64 for float64 unary costs, else float32
    labels: Tensor  # (B, *spatial) int64; not the argmin of `cost` for TRW-S
    energies: Tensor  # (B, iterations) float64, of the labels after each iteration
    bounds: Tensor | None  # (B, iterations) float64: TRW-S's lower bounds


def trws(
    unary: Tensor,
    pairwise: PairwiseLike = "potts",
    weights: Weights = None,
    directions: int = 4,
    iterations: int = 5,
) -> Sequential:
    """Run TRW-S; on a chain whose optimum is unique, one iteration finds it.

    Args:
        unary: (B, L, H, W) or (B, L, D, H, W) costs, lower is better.
        pairwise: a name, a `Pairwise`, or an (L, L) tensor with the label of the earlier node first.
        weights: None for ones, a number, (R,), (R, *spatial) or (B, R, *spatial), at the target node; those of the odd
            directions are not read. May be negative.
        directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.
        iterations: at least 1.

    Returns:
        `cost` holds the unary costs plus all messages; the labels are chosen sequentially and are better.

    Raises:
        UsageError: anything that does not fit, named.
    """
    unary = checked_unary(unary).detach()
    field, arrays = _flatten(unary, pairwise, weights, directions, iterations)
    messages = arrays.unary.new_zeros(*arrays.weights.shape, unary.shape[1])  # (B, K, N, L)
    steps = []
    for _ in range(iterations):
        labels, bound = trws_sweep(arrays.grid, arrays.unary, arrays.weights, arrays.matrix, messages)
        labels = labels.reshape(-1, *unary.shape[2:]).to(unary.device)
        steps.append((labels, field_energy(labels, unary, field), bound.to(unary.device)))
    cost = _unflatten(beliefs(arrays.grid, arrays.unary, messages), unary)
    energies, bounds = (torch.stack([step[part] for step in steps], 1) for part in (1, 2))
    return Sequential(cost, steps[-1][0], energies, bounds)


def icm(
    unary: Tensor,
    pairwise: PairwiseLike = "potts",
    weights: Weights = None,
    directions: int = 4,
    iterations: int = 5,
) -> Sequential:
    """Run ICM from the labels of least unary cost; the energy never rises from one iteration to the next.

    Args and errors are those of `trws`.

    Returns:
        `cost` holds the unary costs plus those of the edges to the neighbours' last labels; no bounds.
    """
    unary = checked_unary(unary).detach()
    field, arrays = _flatten(unary, pairwise, weights, directions, iterations)
    labels = arrays.unary.argmin(-1)  # (B, N)
    energies = []
    for _ in range(iterations):
        icm_sweep(arrays.grid, arrays.unary, arrays.weights, arrays.matrix, labels)
        shaped = labels.reshape(-1, *unary.shape[2:]).to(unary.device, copy=True)
        energies.append(field_energy(shaped, unary, field))
    cost = conditional_costs(arrays.grid, arrays.unary, arrays.weights, arrays.matrix, labels)
    return Sequential(_unflatten(cost, unary), shaped, torch.stack(energies, 1), None)


@dataclass(frozen=True)
class _Arrays:
    """A field as the kernels want it: float64, on the CPU, contiguous, nodes in row-major order, labels fastest."""

    grid: Grid
    unary: Tensor  # (B, N, L)
    weights: Tensor  # (B, K, N), of the even directions
    matrix: Tensor  # (L, L)


def _flatten(
    unary: Tensor, pairwise: PairwiseLike, weights: Weights, directions: int, iterations: int
) -> tuple[Field, _Arrays]:
    check_iterations(iterations)
    field = build_field(unary, pairwise, weights, directions)
    batch, _, *spatial = unary.shape
    edges = field.weights[:, ::2].expand(batch, -1, *spatial)  # (B, K, *spatial)
    grid = Grid(tuple(spatial), field.steps[::2])
    nodes_last = [unary.flatten(2).transpose(1, 2), edges.flatten(2), field.matrix]
    return field, _Arrays(grid, *[_kernel_ready(tensor) for tensor in nodes_last])


def _kernel_ready(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64).contiguous()


def _unflatten(cost: Tensor, like: Tensor) -> Tensor:
    return cost.transpose(1, 2).reshape(like.shape).to(like)
