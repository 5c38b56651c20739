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
from ranp.adapters.mrf._field import Field, PairwiseLike, Weights, check_iterations
from ranp.kernels.sequential import Grid, beliefs, conditional_costs, icm_sweep, trws_sweep


class Sequential(NamedTuple):
    """What a sequential method returns, on the device of the unary costs."""

    cost: Tensor  # (B, L, *spatial), float64 for float64 unary costs, else float32
    labels: Tensor  # (B, *spatial) int64; not the argmin of `cost` for TRW-S
    energies: Tensor  # (B, iterations) float64, of the labels after each iteration
    bounds: Tensor | None  # (B, iterations) float64: TRW-S's lower bounds


@torch.no_grad()
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
    check_iterations(iterations)
    field = Field.of(unary, pairwise, weights, directions)
    arrays = _Arrays.of(field)
    messages = arrays.unary.new_zeros(*arrays.weights.shape, arrays.unary.shape[2])  # (B, K, N, L)
    steps = []
    for _ in range(iterations):
        labels, bound = trws_sweep(arrays.grid, arrays.unary, arrays.weights, arrays.matrix, messages)
        labels = labels.unflatten(1, field.spatial).to(unary.device)
        steps.append((labels, field_energy(labels, field), bound.to(unary.device)))
    cost = _unflatten(beliefs(arrays.grid, arrays.unary, messages), field)
    energies, bounds = (torch.stack([step[part] for step in steps], 1) for part in (1, 2))
    return Sequential(cost, steps[-1][0], energies, bounds)


@torch.no_grad()
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
    check_iterations(iterations)
    field = Field.of(unary, pairwise, weights, directions)
    arrays = _Arrays.of(field)
    labels = arrays.unary.argmin(-1)  # (B, N)
    energies = []
    for _ in range(iterations):
        icm_sweep(arrays.grid, arrays.unary, arrays.weights, arrays.matrix, labels)
        shaped = labels.unflatten(1, field.spatial).to(unary.device, copy=True)
        energies.append(field_energy(shaped, field))
    cost = conditional_costs(arrays.grid, arrays.unary, arrays.weights, arrays.matrix, labels)
    return Sequential(_unflatten(cost, field), shaped, torch.stack(energies, 1), None)


@dataclass(frozen=True)
class _Arrays:
    """A field as the kernels want it: float64, on the CPU, contiguous, nodes in row-major order, labels fastest."""

    grid: Grid
    unary: Tensor  # (B, N, L)
    weights: Tensor  # (B, K, N), of the even directions
    matrix: Tensor  # (L, L)

    @classmethod
    def of(cls, field: Field) -> "_Arrays":
        nodes = torch.Size(field.spatial).numel()
        edges = field.weights[:, ::2].expand(len(field.unary), -1, nodes)  # (B, K, N)
        tensors = (field.unary.flatten(2).transpose(1, 2), edges, field.matrix)
        return cls(
            Grid(field.spatial, field.steps[::2]),
            *[tensor.to("cpu", torch.float64).contiguous() for tensor in tensors],
        )


def _unflatten(cost: Tensor, field: Field) -> Tensor:
    return cost.transpose(1, 2).reshape(field.unary.shape).to(field.unary)
