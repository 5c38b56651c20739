"""verify(): proof that a slim network computes what the masked full network computes."""

from typing import Any

import torch
from torch import Tensor, nn

from ranp.errors import CheckFailed, UnsupportedError, UsageError, check_type, saying
from ranp.graph.graph import Graph, Mask
from ranp.inputs import Inputs, as_arguments, draw, flatten, places_of
from ranp.modules import Change, Module, copy_with, tensors_of
from ranp.plan import Plan
from ranp.reports import Verification
from ranp.surgery._draws import Draws, drawn_alike
from ranp.surgery._float64 import Doubles
from ranp.surgery._masked import KeptStatistics, masked
from ranp.surgery._slabs import Slabs

TOLERANCE = 1e-9


def verify(
    model: nn.Module,
    slim: nn.Module,
    plan: Plan,
    example_inputs: Inputs,
    *,
    inputs: int = 2,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Verification:
    """Compare the slim network with the full one whose reads of removed units are zero.

    The slim network's weights are put into a copy of the full one, everything that was removed gets random values, and
    what reads removed units is zeroed. Both run in evaluation mode in float64 on random inputs. Outputs that may shrink
    (`outputs=` of `ranp.trace`) are named as not compared.

    Args:
        model: the full module, for its architecture; on any device, even meta.
        slim: the smaller one.
        plan: between the two.
        example_inputs: for shapes and dtypes; inputs of whole numbers are used as they are.
        inputs: how many random inputs to try.
        seed: of inputs and of the removed values.
        tolerance: largest relative difference that counts as equal.

    Raises:
        UsageError: the plan does not fit one of the modules.
        UnsupportedError: the full network does not run in float64.
        CheckFailed: the slim network does not run.
    """
    check_type("plan", plan, isinstance(plan, Plan), "a ranp.Plan")
    check_type("slim", slim, isinstance(slim, nn.Module), "a torch.nn.Module")
    graph = plan.graph_of(model)
    kept = plan.mask(graph)
    generator = torch.Generator().manual_seed(seed)
    small = _doubled(slim)
    full = masked(graph, model, kept, _scattered(graph, small, kept, generator)).double().eval()
    worst_abs = worst_rel = 0.0
    uncompared: tuple[str, ...] = ()
    for _ in range(inputs):
        drawn = as_arguments(draw(example_inputs, generator, torch.float64))
        statistics = KeptStatistics(graph, kept)
        expected, found = _both(graph, kept, full, small, drawn)
        stays = places_of(graph.outputs, len(expected))
        others = [f"output {place}, which may shrink" for place in range(len(expected)) if place not in stays]
        uncompared = tuple(dict.fromkeys([*statistics.uncompared, *others]))
        difference = _differences(*([each[place] for place in sorted(stays)] for each in (expected, found)))
        worst_abs, worst_rel = max(worst_abs, difference[0]), max(worst_rel, difference[1])
    return Verification(
        max_abs_diff=worst_abs, max_rel_diff=worst_rel, inputs=inputs, tolerance=tolerance,
        frozen=plan.units().frozen, uncompared=uncompared,
    )  # fmt: skip


def _doubled(model: Module) -> Module:
    """Return a copy on the CPU in evaluation mode, its parameters, buffers and plain tensors in float64."""
    wide = copy_with(model, lambda _, tensor: _wide(tensor.detach().cpu()))
    return wide.double().eval()  # a scripted module keeps tensors of its own


def _scattered(graph: Graph, slim: nn.Module, kept: Mask, generator: torch.Generator) -> Change:
    """Return what makes the full module's tensors in float64: the slim one's in their places, random values elsewhere.

    Raises:
        UsageError: when it is called, if the slim module is not what the plan makes of the full one.
    """
    small = tensors_of(slim)

    def scattered(name: str, full: Tensor) -> Tensor:
        part = small.get(name)
        if part is None:
            raise UsageError(f"the slim network has no {name}; it was not made from this model")
        if name not in graph.parameters or not (part.is_floating_point() or part.is_complex()):
            if part.shape != full.shape:
                raise UsageError(
                    f"{name}: {tuple(part.shape)} in the slim network, {tuple(full.shape)} in the full one"
                )
            return part.detach().clone()
        where = graph.where(name, kept)
        if int(where.sum()) != part.numel():
            raise UsageError(f"{name}: {tuple(part.shape)} in the slim network does not fit the plan")
        values = torch.rand(where.shape, generator=generator, dtype=torch.float64) + 0.5  # positive: variances too
        values = values.to(part.dtype)
        values[where] = part.detach().ravel()
        return values

    return scattered


def _wide(tensor: Tensor) -> Tensor:
    """Return a copy in float64 or complex128; numbers of other kinds stay as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128, copy=True)
    return tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()


def _both(graph: Graph, kept: Mask, full: nn.Module, small: nn.Module, drawn: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of the masked network, its statistics over the kept channels, and those of the slim one."""

    def of_full(draws: Draws) -> list[Tensor]:
        with KeptStatistics(graph, kept), saying(UnsupportedError, "the network can't be compared in float64"):
            return _outputs(full, drawn, draws)

    def of_slim(draws: Draws) -> list[Tensor]:
        with saying(CheckFailed, "the slim network does not run: a defect in ranp, please report it"):
            return _outputs(small, drawn, draws)

    return drawn_alike(of_full, of_slim)


def _outputs(model: nn.Module, drawn: Any, draws: Draws) -> list[Tensor]:
    args, kwargs = drawn
    with torch.no_grad(), torch.random.fork_rng(devices=[]), Slabs(), Doubles(), draws:
        torch.manual_seed(0)
        return flatten(model(*args, **kwargs), spend=True)


def _differences(expected: list[Tensor], found: list[Tensor]) -> tuple[float, float]:
    if [each.shape for each in expected] != [each.shape for each in found]:
        return float("inf"), float("inf")
    worst_abs = worst_rel = 0.0
    for left, right in zip(expected, found, strict=True):
        if not left.numel():
            continue
        left, right = (each.to(torch.complex128 if each.is_complex() else torch.float64) for each in (left, right))
        gap, size = float((left - right).abs().max()), float(left.abs().max())
        gap = float("inf") if gap != gap else gap
        worst_abs, worst_rel = max(worst_abs, gap), max(worst_rel, gap / size if size else gap)
    return worst_abs, worst_rel
