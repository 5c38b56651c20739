"""verify(): proof that a slim network computes what the masked full network computes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranp.errors import CheckFailed, RanpError, UnsupportedError, UsageError, check_type, saying
from ranp.graph.flow import Flow
from ranp.graph.graph import Graph, Mask, staying
from ranp.inputs import Inputs, as_arguments, draw, flatten, generator_of
from ranp.modules import Change, Module, check_values, copy_with, tensors_of, undisturbed, unregistered, unwrapped
from ranp.plan import Plan
from ranp.reports import Verification
from ranp.surgery._draws import Draws, drawn_alike
from ranp.surgery._float64 import Doubles
from ranp.surgery._masked import KeptStatistics, masked
from ranp.surgery._size import Size, compared_at
from ranp.surgery._slabs import Slabs
from ranp.surgery.transient import left_behind

TOLERANCE = 1e-9
MOVES = 1e-5  # of its size that an output must vary by, so that rounding stays below the tolerance of that
Outputs = tuple[list[Tensor], list[Tensor]]  # of the masked network and of the slim one


@undisturbed()
def verify(
    model: nn.Module,
    slim: nn.Module,
    plan: Plan,
    example_inputs: Inputs,
    *,
    inputs: int = 2,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    verify_input: Size | None = None,
) -> Verification:
    """Compare the slim network with the full one whose reads of removed units are zero.

    The slim network's weights are put into a copy of the full one, everything that was removed gets random values, and
    what reads removed units is zeroed. Both run in evaluation mode in float64 on random inputs, of the smallest size on
    which the network does what it does on the example. A difference counts by how far the output varies between the
    inputs: one that does not vary (a head of zeros, dead units) says nothing, and is compared with random weights.
    Outputs that may shrink (`outputs=` of `ranp.trace`) are compared on the channels that stay.

    Args:
        model: the full module, for its architecture; on any device, even meta.
        slim: the smaller one.
        plan: between the two.
        example_inputs: for shapes and dtypes; inputs of whole numbers stay as they are, unless their range is known.
        inputs: how many random inputs to try; two at least.
        seed: of inputs and of the removed values.
        tolerance: largest relative difference that counts as equal.
        verify_input: the spatial size to compare at instead, such as 32 or (16, 32, 32).

    Raises:
        UsageError: the plan does not fit one of the modules, or the network does something else at `verify_input`.
        UnsupportedError: the full network does not run in float64.
        CheckFailed: the slim network does not run.
    """
    check_type("plan", plan, isinstance(plan, Plan), "a ranp.Plan")
    check_type("slim", slim, isinstance(slim, nn.Module), "a torch.nn.Module")
    model, slim = unwrapped(model), unwrapped(slim)
    graph = plan.graph_of(model)
    kept = plan.mask(graph)
    generator = generator_of(seed)
    check_values(slim)
    small = _doubled(slim)
    pair = _Pair(graph, kept, _full(graph, model, kept, small, generator, example_inputs), small)
    tries, example = max(inputs, 2), compared_at(model, example_inputs, verify_input)
    try:
        found = _agreements([pair], example, tries, generator)
    except UnsupportedError:
        if verify_input is not None or example is example_inputs:
            raise
        example = example_inputs  # the ops are the same, and yet something asks for the size
        found = _agreements([pair], example, tries, generator)
    uncompared = [*KeptStatistics(graph, kept, pair.full).uncompared]
    mixed = [index for index in range(len(found)) if found[index].mixed]
    uncompared += [f"output {index + 1} of {len(found)}: which part of it stays is not known" for index in mixed]
    equal = [index for index in range(len(found)) if index not in mixed and found[index].relative <= tolerance]
    still = [index for index in equal if not found[index].moves]
    if still:
        again = _with_random_weights(model, pair, example, tries, generator)
        for index in still:
            name, moved = f"output {index + 1} of {len(found)}", index < len(again) and again[index].moves
            found[index] = again[index] if moved else found[index]
            said = " under these weights: compared under random ones" if moved else ""
            uncompared.append(f"{name}: it does not change with the input{said}")
    return Verification(
        max_abs_diff=max((each.gap for each in found), default=0.0),
        max_rel_diff=max((each.relative for each in found), default=0.0),
        inputs=tries, tolerance=tolerance, frozen=plan.units().frozen, uncompared=tuple(dict.fromkeys(uncompared)),
        compared_input=[list(tensor.shape) for tensor in flatten(as_arguments(example))],
        outputs=len(found), compared=sum(each.moves for each in found),
    )  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    """A masked network and the slim one, in float64."""

    graph: Graph
    kept: Mask
    full: nn.Module
    small: nn.Module


class _Agreement:
    """How far an output of two networks lies apart, and how far it varies, over some inputs.

    Attributes:
        gap: largest difference between the two.
        size: largest magnitude.
        mixed: whether it was left, because it is not known which part of the full network's output stays.
    """

    def __init__(self) -> None:
        self.gap = self.size = 0.0
        self.mixed = False
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._resized = False

    def add(self, left: Tensor, right: Tensor) -> None:
        """See what the two put out on one input."""
        if left.shape != right.shape:
            self.gap = float("inf")
            return
        if not left.numel():
            return
        left, right = (torch.view_as_real(each) if each.is_complex() else each.double() for each in (left, right))
        alike = (left == right) | (left.isnan() & right.isnan())
        gap = float((left - right).abs().masked_fill(alike, 0).max())
        finite = left.nan_to_num(0, 0, 0)
        self.gap, self.size = (
            max(self.gap, float("inf") if gap != gap else gap),
            max(self.size, float(finite.abs().max())),
        )
        if self._low is None or self._high is None:
            self._low = self._high = finite
        elif self._low.shape != finite.shape:
            self._resized = True  # how many it finds depends on the input
        else:
            self._low, self._high = torch.minimum(self._low, finite), torch.maximum(self._high, finite)

    @property
    def spread(self) -> float:
        """How far it varies between the inputs."""
        if self._low is None or self._high is None:
            return 0.0
        return self.size if self._resized else float((self._high - self._low).max())

    @property
    def moves(self) -> bool:
        """Whether it varies by more than rounding, so that a comparison says something."""
        return self.spread > MOVES * self.size

    @property
    def relative(self) -> float:
        """The difference as a share of how far the output varies; of its size, where it does not."""
        scale = self.spread if self.moves else self.size
        return self.gap / scale if scale else self.gap


def _agreements(pairs: list[_Pair], example: Any, tries: int, generator: torch.Generator) -> list[_Agreement]:
    """Compare networks on random inputs, each pair in its turn, output by output."""
    found: list[_Agreement] = []
    for number in range(tries):
        drawn = as_arguments(draw(example, generator, torch.float64))
        expected, slim = _both(pairs[number % len(pairs)], drawn)
        found += [_Agreement() for _ in range(max(len(expected), len(slim)) - len(found))]
        if len(expected) != len(slim):
            found[-1].gap = float("inf")
        flows = pairs[0].graph.runs["eval"].outputs
        for index, (agreement, left, right) in enumerate(zip(found, expected, slim, strict=False)):
            part = _staying_part(left, flows[index], pairs[0]) if index < len(flows) else left
            agreement.mixed |= part is None
            if part is not None:
                agreement.add(part, right)
    return found


def _staying_part(output: Tensor, flow: Flow, pair: _Pair) -> Tensor | None:
    """Return the channels of the full network's output that the slim one has too, None where they lie mixed."""
    masks: dict[int, Mask] = {}
    for units in flow.fields:
        mask = staying(pair.kept, units)
        if mask.all():
            continue
        axis, *others = (axis for axis, size in enumerate(mask.shape) if size > 1)
        if others or output.ndim != mask.ndim or output.shape[axis] != mask.size:  # another input may be another size
            return None
        masks[axis] = masks.get(axis, True) & mask.ravel()
    for axis, mask in masks.items():
        output = output.index_select(axis, torch.from_numpy(np.flatnonzero(mask)))
    return output


def _with_random_weights(
    model: nn.Module, pair: _Pair, example: Any, tries: int, generator: torch.Generator
) -> list[_Agreement]:
    """Compare networks of the same structure under random weights; nothing where they do not run under such.

    Where no input can be drawn at random, the weights are drawn again for each try.
    """
    drawable = any(each.is_floating_point() or each.is_complex() for each in flatten(as_arguments(example)))
    pairs = []
    try:
        for _ in range(1 if drawable else tries):
            small = copy_with(pair.small, lambda name, tensor: _random(name, tensor, generator))
            full = _full(pair.graph, model, pair.kept, small, generator, example)
            pairs.append(_Pair(pair.graph, pair.kept, full, small))
        return _agreements(pairs, example, tries, generator)
    except RanpError:
        return []


def _random(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random values for a parameter: of either sign for a weight and a bias, positive for a norm's scale.

    Weights are as large as He et al. (ICCV 2015) draw them, for rectifiers, and biases small: after fifty layers what
    varies with the input must not have faded behind what does not.
    """
    if not isinstance(tensor, nn.Parameter) or not tensor.is_floating_point():
        return tensor
    values = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
    if tensor.ndim < 2:
        return values.sub_(0.5).mul_(0.2) if name.endswith("bias") else values.add_(0.5)
    return values.mul_(2).sub_(1).mul_(math.sqrt(6 / max(tensor[0].numel(), 1)))


def _full(
    graph: Graph, model: nn.Module, kept: Mask, small: nn.Module, generator: torch.Generator, inputs: Inputs
) -> nn.Module:
    """Return the masked network with the slim one's weights in float64."""
    scattered = _scattered(graph, model, small, kept, generator, inputs)
    full = masked(graph, model, kept, scattered).double().eval()
    for hidden in unregistered(full):
        hidden.cpu().double()
    _forget_(full, small)
    return full


def _forget_(full: nn.Module, small: nn.Module) -> None:
    """Take out of both private copies the plain tensors that only one has, because it has run and made them."""
    modules = dict(small.named_modules())
    for path, own in full.named_modules():
        pair = vars(own), vars(modules.get(path, own))
        for values, others in (pair, pair[::-1]):
            for key in [key for key, each in values.items() if isinstance(each, Tensor)]:
                if not isinstance(others.get(key), Tensor):
                    values.pop(key) if key not in others else values.update({key: others[key]})


def _doubled(model: Module) -> Module:
    """Return a copy on the CPU in evaluation mode, its parameters, buffers and plain tensors in float64."""
    wide = copy_with(model, lambda _, tensor: _wide(tensor.detach().cpu()))
    for hidden in unregistered(wide):
        hidden.cpu().double()
    return wide.double().eval()  # a scripted module keeps tensors of its own


def _scattered(
    graph: Graph, model: nn.Module, slim: nn.Module, kept: Mask, generator: torch.Generator, inputs: Inputs
) -> Change:
    """Return what makes the full module's tensors in float64: the slim one's in their places, random values elsewhere.

    Raises:
        UsageError: when it is called, if the slim module is not what the plan makes of the full one.
    """
    small, full_ones = tensors_of(slim), tensors_of(model)
    registered = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    strange = {name for name in full_ones if name not in graph.parameters and name not in graph.shapes}
    strange = {name for name in strange if name not in small or small[name].shape != full_ones[name].shape}
    left = left_behind(model, inputs) if strange else frozenset()

    def scattered(name: str, full: Tensor) -> Tensor:
        part = small.get(name)
        if name in left or (part is None and name not in registered):  # made by a forward
            return full.detach().clone()
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


def _both(pair: _Pair, drawn: Any) -> Outputs:
    """Return the outputs of the masked network, its statistics over the kept channels, and those of the slim one."""

    def of_full(draws: Draws) -> list[Tensor]:
        with (
            KeptStatistics(pair.graph, pair.kept, pair.full),
            saying(UnsupportedError, "the network can't be compared in float64"),
        ):
            return _outputs(pair.full, drawn, draws)

    def of_slim(draws: Draws) -> list[Tensor]:
        with saying(CheckFailed, "the slim network does not run: a defect in ranp, please report it"):
            return _outputs(pair.small, drawn, draws)

    return drawn_alike(of_full, of_slim)


def _outputs(model: nn.Module, drawn: Any, draws: Draws) -> list[Tensor]:
    args, kwargs = drawn
    with torch.no_grad(), torch.random.fork_rng(devices=[]), Slabs(), Doubles(), draws:
        torch.manual_seed(0)
        return flatten(model(*args, **kwargs), spend=True)
