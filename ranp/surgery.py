"""slim(): plan + module -> a smaller module; verify(): proof that it computes what the masked full network computes."""

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ranp.doubles import Doubles
from ranp.draws import Draws, drawn_alike
from ranp.errors import CheckFailed, UnsupportedError, UsageError, saying
from ranp.graph.graph import Graph, Mask
from ranp.graph.resize import resized
from ranp.graph.run import Inputs, as_arguments
from ranp.graph.tensors import copy_with, tensors_of, tensors_within
from ranp.masking import KeptStatistics, masked
from ranp.plan import Plan
from ranp.slabs import Slabs

Module = TypeVar("Module", bound=nn.Module)
TOLERANCE = 1e-9


def slim(model: Module, plan: Plan) -> Module:
    """Return a physically smaller copy of a module, of the same class, that keeps a plan's units with their weights.

    Args:
        model: the full module; it is untouched.
        plan: made for it, or for the same architecture.

    Raises:
        UsageError: the plan does not fit; the group that differs is named.
    """
    graph = plan.graph_of(model)
    return resized(graph, model, plan.mask(graph))


@dataclass(frozen=True)
class Verification:
    """How far the slim network is from the masked one, in float64 and evaluation mode.

    Args:
        max_abs_diff: largest difference over all outputs and inputs tried.
        max_rel_diff: that of each output divided by the output's largest magnitude.
        inputs: how many random inputs were tried.
        tolerance: largest relative difference that counts as equal.
        frozen: how many units stayed for each reason.
        uncompared: statistics that could not be taken over the kept channels, by name.
    """

    max_abs_diff: float
    max_rel_diff: float
    inputs: int
    tolerance: float
    frozen: dict[str, int]
    uncompared: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return self.max_rel_diff <= self.tolerance

    def require(self) -> None:
        """Do nothing if the two agree.

        Raises:
            CheckFailed: they do not.
        """
        if not self.passed:
            raise CheckFailed(
                f"the slim network differs from the masked one by {self.max_rel_diff:.1e} of the largest output "
                f"(tolerance {self.tolerance:.0e}): a defect in ranp, please report it"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, `passed` among them."""
        return {**asdict(self), "uncompared": list(self.uncompared), "passed": self.passed}


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
    what reads removed units is zeroed. Both run in evaluation mode in float64 on random inputs.

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
    graph = plan.graph_of(model)
    kept = plan.mask(graph)
    generator = torch.Generator().manual_seed(seed)
    full = masked(graph, scattered(graph, model, slim, kept, generator), kept).double().eval()
    small = _doubled(slim)
    worst_abs = worst_rel = 0.0
    uncompared: tuple[str, ...] = ()
    for _ in range(inputs):
        drawn = random_inputs(example_inputs, generator)
        statistics = KeptStatistics(graph, kept)
        uncompared = tuple(dict.fromkeys(statistics.uncompared))
        difference = _differences(*_both(graph, kept, full, small, drawn))
        worst_abs, worst_rel = max(worst_abs, difference[0]), max(worst_rel, difference[1])
    return Verification(worst_abs, worst_rel, inputs, tolerance, plan.units()["frozen"], uncompared)


def _doubled(model: Module) -> Module:
    """Return a copy on the CPU in evaluation mode, its parameters, buffers and plain tensors in float64."""
    wide = {name: _wide(tensor.detach().cpu()) for name, tensor in tensors_of(model).items()}
    return copy_with(model, wide).double().eval()  # a scripted module keeps tensors of its own


def scattered(graph: Graph, model: Module, slim: nn.Module, kept: Mask, generator: torch.Generator) -> Module:
    """Return a copy of the full module in float64: the slim one's weights in their places, random values elsewhere.

    Raises:
        UsageError: the slim module is not what the plan makes of the full one.
    """
    small = tensors_of(slim)
    tensors = {}
    for name, tensor in tensors_of(model).items():
        part = small.get(name)
        if part is None:
            raise UsageError(f"the slim network has no {name}; it was not made from this model")
        part = part.detach().cpu()
        if name not in graph.parameters or not (part.is_floating_point() or part.is_complex()):
            tensors[name] = _unchanged(part, tensor, name)
            continue
        where = graph.where(name, kept)
        if int(where.sum()) != part.numel():
            raise UsageError(f"{name}: {tuple(part.shape)} in the slim network does not fit the plan")
        values = torch.rand(where.shape, generator=generator, dtype=torch.float64) + 0.5  # positive: variances too
        values = values.to(_wide(part).dtype)
        values[where] = _wide(part).ravel()
        tensors[name] = values
    return copy_with(model, tensors)


def _unchanged(part: Tensor, full: Tensor, name: str) -> Tensor:
    """Return a tensor without units, which is equal in both networks."""
    if part.shape != full.shape:
        raise UsageError(f"{name}: {tuple(part.shape)} in the slim network, {tuple(full.shape)} in the full one")
    return _wide(part)


def _wide(tensor: Tensor) -> Tensor:
    """Return a copy in float64 or complex128; numbers of other kinds stay as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128, copy=True)
    return tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()


def random_inputs(example_inputs: Inputs, generator: torch.Generator) -> Any:
    """Return normal values of the shapes of example inputs in float64; inputs of whole numbers as they are."""

    def draw(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() or tensor.is_complex():
            wide = torch.complex128 if tensor.is_complex() else torch.float64
            return torch.randn(tensor.shape, generator=generator, dtype=wide)
        return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.cpu()

    args, kwargs = as_arguments(example_inputs)
    return tree_map_only(Tensor, draw, (args, kwargs))


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
        return tensors_within(model(*args, **kwargs))


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
