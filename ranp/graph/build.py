"""trace(): from a module and example inputs to its channel graph."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ranp.errors import UsageError, WrongType, check_type, named, nearest, told
from ranp.graph._decisions import Decisions
from ranp.graph._probe import settle
from ranp.graph.graph import Graph
from ranp.graph.labels import Ints
from ranp.graph.run import Failure, Insisting, Recorder, failed, run
from ranp.graph.trace import Trace
from ranp.inputs import Inputs, check_outputs, describe, draw, generator_of, map_tensors
from ranp.modules import check_initialised, collector_paused, lies_in, on_meta, tensors_of

DRAWS = 3  # random inputs tried for the paths of a network that reads values
NUMBERS = 8  # whole numbers tried where it reads any, 0 and up


def trace(
    model: nn.Module, example_inputs: Inputs, *, freeze: Iterable[str] = (), outputs: Iterable[int] = ()
) -> Graph:
    """Find which channels of which parameters live and die together.

    The network runs on meta tensors in evaluation mode, and in training mode where it can (heads used only in
    training). Slim networks built from random plans are run beside it, so that sizes baked into the forward are found;
    what they stop is frozen, with the reason.

    Args:
        model: any module of convolutions; it is untouched.
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword ones; shapes and dtypes matter.
        freeze: globs of module or parameter paths whose channels must stay.
        outputs: places of the tensors, among those the network returns, that must keep their shape: (-1,) is the last.
            The others, features beside the result, may shrink. By default all keep theirs.

    Raises:
        UsageError: the model is not a module, the inputs are no tensors, or a glob matches nothing.
        UnsupportedError: the network does not run, with the op and the module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3))
        >>> graph = trace(net, torch.zeros(1, 1, 8, 8))
        >>> [(group.name, len(group.units), graph.reason_of(group)) for group in graph.groups]
        [('0', 2, None), ('2', 4, 'network output')]
    """
    if not isinstance(model, nn.Module):
        raise WrongType(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    described = describe(example_inputs)
    check_initialised(model)
    check_type("freeze", freeze, not isinstance(freeze, str), "a list of patterns")
    check_type("outputs", outputs, not isinstance(outputs, int | str), "a list of places, such as (-1,)")
    patterns, stays = tuple(freeze), tuple(map(int, outputs))
    with collector_paused():
        try:
            graph = _trace(
                on_meta(model),
                map_tensors(example_inputs, lambda t: torch.empty_like(t, device="meta")),
                patterns,
                stays,
            )
        except Failure:
            graph = _trace_real(model, example_inputs, patterns, stays)
    kind = type(model)
    name = f"{kind.__module__}.{kind.__qualname__}"
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return replace(graph, inputs=described, model=name, freeze=patterns, shapes=shapes)


def _trace_real(model: nn.Module, inputs: Inputs, patterns: tuple[str, ...], outputs: tuple[int, ...]) -> Graph:
    """Trace on real tensors, for a network that reads values while it runs; what has only a shape is zero."""

    def real(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().clone()

    try:
        graph = _trace(model, map_tensors(inputs, real), patterns, outputs, reads_values=True)
    except Failure as failure:
        raise failed(failure) from failure.error
    return replace(graph, notes=(*graph.notes, "traced on real tensors: the network reads values while it runs"))


def _trace(
    model: nn.Module, inputs: Any, patterns: tuple[str, ...], outputs: tuple[int, ...], *, reads_values: bool = False
) -> Graph:
    grown, notes = Trace(), []
    grown.outputs = outputs
    first = Recorder(grown)
    run(grown, model, inputs, first, training=False)
    check_outputs(outputs, first.given)
    try:
        run(grown, model, inputs, Recorder(grown), training=True)
    except Failure as failure:
        grown.runs.pop("train")
        said = told(failure.error, 200)
        notes.append(f"not traced in training mode: {failure.where}: {said}")
    if reads_values:
        notes += _other_paths(grown, model, inputs, first.read)
    decisions = Decisions(fixed=_by_user(grown, patterns))
    graph = settle(grown, model, inputs, list(tensors_of(model)), decisions)
    return replace(graph, notes=tuple(notes))


def _other_paths(grown: Trace, model: nn.Module, inputs: Any, read: set[type]) -> list[str]:
    """Follow other paths of a network whose path depends on values, so that what they share is tied; note what is left.

    Conditions are taken for true and for false, whole numbers for small ones, and random inputs are tried. A path that
    does not run is left.
    """
    runs, generator = dict(grown.runs), generator_of(0)
    answers = [*((True, False) if bool in read else ()), *(range(NUMBERS) if int in read else ())]
    tries: list[tuple[Recorder, Any]] = [(Insisting(grown, answer), inputs) for answer in answers]
    tries += [(Recorder(grown), draw(inputs, generator)) for _ in range(DRAWS)]
    for follower, given in tries:
        with suppress(Failure):
            run(grown, model, given, follower, training=False)
    grown.runs = runs
    layers = (nn.modules.conv._ConvNd, nn.Linear)
    idle = [path for path, module in model.named_modules() if isinstance(module, layers) and not _ran(grown, path)]
    if not idle:
        return []
    shown = ", ".join(idle[:5]) + (f" and {len(idle) - 5} more" if len(idle) > 5 else "")
    return [f"never ran on the paths tried, keeps its full size: {shown}"]


def _ran(grown: Trace, path: str) -> bool:
    return any(layer.module == path for layer in grown.layers.values())


def _by_user(grown: Trace, patterns: tuple[str, ...]) -> list[tuple[Ints, str]]:
    frozen = []
    for pattern in patterns:
        found = [layer for layer in grown.layers.values() if lies_in(layer.name, pattern)]
        if not found:
            known = sorted({layer.name.rpartition(".")[0] for layer in grown.layers.values()})
            raise UsageError(
                f"{named('freeze', pattern)} matches no convolution or linear layer{nearest(pattern, known)}"
            )
        frozen += [(layer.neurons[layer.neurons >= 0], f"fixed by the user ({pattern})") for layer in found]
    return [(labels, why) for labels, why in frozen if labels.size]
