"""trace(): from a module and example inputs to its channel graph."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import ranp.graph.rules  # noqa: F401  so that every op has its rule
from ranp.errors import UsageError, WrongType, check_type, named, nearest, some, told
from ranp.graph._check import checked
from ranp.graph._final import finalise
from ranp.graph._flags import SHOWN, Tries, follow_flags, idle, modules_of
from ranp.graph._recording import Insisting, Recorder
from ranp.graph._run import Failure, failed, run
from ranp.graph.flow import look_up
from ranp.graph.graph import Graph
from ranp.graph.trace import Trace
from ranp.inputs import Inputs, check_outputs, describe, draw, generator_of, map_tensors
from ranp.modules import (
    check_initialised,
    check_kind,
    lies_in,
    on_meta,
    tensors_of,
    undisturbed,
    unregistered,
    unwrapped,
    wrapping,
)

DRAWS = 3  # random inputs tried for the paths of a network that reads values
NUMBERS = 8  # whole numbers tried where it reads any, 0 and up


@undisturbed()
def trace(
    model: nn.Module, example_inputs: Inputs, *, freeze: Iterable[str] = (), outputs: Iterable[int] = ()
) -> Graph:
    """Find which channels of which parameters live and die together.

    The network runs on meta tensors in evaluation mode, and in training mode where it can (heads used only in
    training). Slim networks built from random plans are run beside it, so that sizes baked into the forward are found;
    what they stop is frozen, with the reason.

    Args:
        model: any module of convolutions; it is untouched. Of a wrapper (DataParallel, a compiled module, an average of
            weights, a training module) the network inside is traced, and a note says so.
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
    told, model = wrapping(model), unwrapped(model)
    described = describe(example_inputs)
    check_kind(model)
    check_initialised(model)
    check_type("freeze", freeze, not isinstance(freeze, str), "a list of patterns")
    check_type("outputs", outputs, not isinstance(outputs, int | str), "a list of places, such as (-1,)")
    patterns, stays = tuple(freeze), tuple(map(int, outputs))
    try:
        empty = map_tensors(example_inputs, lambda t: torch.empty_like(t, device="meta"))
        graph = _trace(on_meta(model), empty, patterns, stays)
    except Failure:
        graph = _trace_real(model, example_inputs, patterns, stays)
    kind = type(model)
    name = f"{kind.__module__}.{kind.__qualname__}"
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    notes = (*filter(None, [told, _unseen(model)]), *graph.notes)
    return replace(graph, inputs=described, model=name, freeze=patterns, shapes=shapes, notes=notes)


def _unseen(model: nn.Module) -> str | None:
    """Say which kinds of layers lie in plain lists and dicts, where neither torch nor an optimiser sees them."""
    kinds = {type(each).__name__ for each in unregistered(model) if any(True for _ in each.parameters())}
    if not kinds:
        return None
    shown = some(sorted(kinds), SHOWN)
    return f"layers in plain lists or dicts keep their size, with what they meet: {shown}; nn.ModuleList shows them"


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
    grown = Trace(outputs=outputs)
    first = Recorder(grown)
    run(grown, model, inputs, first, training=False)
    check_outputs(outputs, first.given)
    tries, order, notes = Tries(grown, model, inputs), list(tensors_of(model)), []
    if grown.splits:
        _split_otherwise(tries, order)
    if not tries.mode_matters():
        tries.grown.runs["train"] = tries.grown.runs["eval"]
    elif (failure := tries.train()) is not None:
        notes.append(f"not traced in training mode: {failure.where}: {told(failure.error, 200)}")
    if reads_values:
        _other_paths(tries.grown, model, inputs, first.read)
    notes += follow_flags(tries)
    grown = tries.grown
    if left := idle(grown, model):
        notes.append(f"never ran, keeps its full size: {', '.join(modules_of(left, model))}")
    _fix_by_user(grown, patterns)
    graph, table = finalise(grown, order)
    graph = checked(graph, model, inputs, [(look_up(table, labels), why) for labels, why in grown.checked])
    if names := [size.name for size in graph.sizes if not graph.frozen[size.units[size.units >= 0]].all()]:
        notes.append(f"numbers that count channels, set in the slim network: {some(names, SHOWN)}")
    return replace(graph, notes=tuple(notes))


def _split_otherwise(tries: Tries, order: list[str]) -> None:
    """Split channels otherwise in views of which all that follow are frozen, and go on with it where more may go.

    Of attention whose heads' channels all stay, heads may go as a whole.
    """
    graph, table = finalise(tries.grown, order, runs=False)
    sites = tries.grown.splits
    stuck = {site for site, labels in sites if look_up(graph.frozen, look_up(table, labels), True).all()}
    other = tries.anew(frozenset(stuck)) if stuck else None
    if other is not None and _removable(finalise(other, order, runs=False)[0]) > _removable(graph):
        tries.grown = other


def _removable(graph: Graph) -> int:
    """Return how many channels of layers may go."""
    return sum(int((~graph.frozen[layer.units[layer.units >= 0]]).sum()) for layer in graph.layers)


def _other_paths(grown: Trace, model: nn.Module, inputs: Any, read: set[type]) -> None:
    """Follow other paths of a network whose path depends on values, so that what they share is tied.

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


def _fix_by_user(grown: Trace, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        found = [layer for layer in grown.layers.values() if lies_in(layer.name, pattern)]
        if not found:
            known = sorted({layer.name.rpartition(".")[0] for layer in grown.layers.values()})
            raise UsageError(
                f"{named('freeze', pattern)} matches no convolution or linear layer{nearest(pattern, known)}"
            )
        for layer in found:
            grown.freeze(layer.units, f"fixed by the user ({pattern})")
