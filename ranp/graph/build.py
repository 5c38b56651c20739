"""trace(): from a module and example inputs to its channel graph."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranp.errors import UsageError, WrongType, check_type, named, nearest, told
from ranp.graph._check import checked
from ranp.graph._run import Failure, Insisting, Recorder, failed, run
from ranp.graph.graph import Graph, finalise
from ranp.graph.trace import Site, Trace
from ranp.inputs import Inputs, check_outputs, describe, draw, generator_of, map_tensors
from ranp.modules import (
    check_initialised,
    check_kind,
    collector_paused,
    copy_with,
    lies_in,
    on_meta,
    tensors_of,
    undisturbed,
    unwrapped,
    wrapping,
)

DRAWS = 3  # random inputs tried for the paths of a network that reads values
NAMED = 6  # numbers of modules that a note names
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
    notes = (told, *graph.notes) if told else graph.notes
    return replace(graph, inputs=described, model=name, freeze=patterns, shapes=shapes, notes=notes)


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
    grown, first = _started(Trace(), model, inputs, outputs)
    order = list(tensors_of(model))
    if stuck := _stuck(grown, graph := finalise(grown, order)):  # heads whose channels all stay may go as a whole
        other, _ = _started(Trace(stuck), model, inputs, outputs)
        grown = other if _removable(finalise(other, order)) > _removable(graph) else grown
    notes = []
    try:
        run(grown, model, inputs, Recorder(grown), training=True)
    except Failure as failure:
        grown.runs.pop("train")
        said = told(failure.error, 200)
        notes.append(f"not traced in training mode: {failure.where}: {said}")
    if reads_values:
        _other_paths(grown, model, inputs, first.read)
    notes += _by_flags(grown, model, inputs)
    if idle := _idle(grown, model):
        notes.append(f"never ran, keeps its full size: {', '.join(_modules_of(idle, model))}")
    _fix_by_user(grown, patterns)
    graph = checked(finalise(grown, order), model, inputs, grown.checked)
    if names := [size.name for size in graph.sizes if not graph.frozen[size.units[size.units >= 0]].all()]:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        notes.append(f"numbers that count channels, set in the slim network: {', '.join(names[:NAMED])}{more}")
    return replace(graph, notes=tuple(notes))


def _started(grown: Trace, model: nn.Module, inputs: Any, outputs: tuple[int, ...]) -> tuple[Trace, Recorder]:
    """Run a network in evaluation mode and return what grew."""
    grown.outputs = outputs
    first = Recorder(grown)
    run(grown, model, inputs, first, training=False)
    check_outputs(outputs, first.given)
    return grown, first


def _stuck(grown: Trace, graph: Graph) -> frozenset[Site]:
    """Return where views split channels of which those that follow are frozen and others could."""
    stuck = set()
    for site, labels in grown.splits:
        units = np.unique(graph.units_of(labels))
        if graph.frozen[units[units >= 0]].all():
            stuck.add(site)
    return frozenset(stuck)


def _removable(graph: Graph) -> int:
    """Return how many channels of layers may go."""
    free = ~graph.frozen
    return sum(int(free[layer.units[layer.units >= 0]].sum()) for layer in graph.layers)


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


Flag = tuple[type, str, bool]
"""A class of modules, an attribute of theirs, and the value that is tried."""


def _by_flags(grown: Trace, model: nn.Module, inputs: Any) -> list[str]:
    """Follow what boolean flags of modules switch on, where parameters never ran, so that it is tied too; say what was.

    All modules of a class have a flag's other value at once; after each flag by itself, all are on or off together.
    What runs no idle parameter is left: a flag that asks for more outputs alone would only freeze them.
    """
    notes: list[str] = []
    for flags in _flags_of(model) if _idle(grown, model) else []:
        for training in (False, True):
            idle, scratch, runs = _idle(grown, model), Trace(), dict(grown.runs)
            if not idle or not _runs(scratch, model, inputs, flags, training=training) or not idle & scratch.read:
                continue
            _runs(grown, model, inputs, flags, training=training)
            grown.runs = runs
            words = ", ".join(dict.fromkeys(f"{kind.__name__}.{name}={value}" for kind, name, value in flags))
            what = ", ".join(_modules_of(idle & grown.read, model))
            notes.append(f"off the path as it is, and coupled with it: {what}, by {words}")
    return notes


def _flags_of(model: nn.Module) -> list[list[Flag]]:
    """Return the flags to try together: each one's other values by itself, then all on, then all off."""
    held: dict[tuple[type, str], set[bool]] = {}
    for module in model.modules():
        if not type(module).__module__.startswith("torch."):
            for name, value in _bools(module):
                held.setdefault((type(module), name), set()).add(value)
    other = [(kind, name, value) for (kind, name), now in held.items() for value in (True, False) if {value} != now]
    together = [[(kind, name, value) for kind, name in held] for value in (True, False)]
    return [[flag] for flag in other] + (together if len(held) > 1 else [])


def _bools(module: nn.Module) -> Iterator[tuple[str, bool]]:
    own = {name: value for kind in reversed(type(module).__mro__) for name, value in vars(kind).items()}
    for name, value in {**own, **vars(module)}.items():
        if isinstance(value, bool) and not hasattr(nn.Module, name) and name not in _OWN and not name.startswith("__"):
            yield name, value


_OWN = frozenset(vars(nn.Module()))


def _runs(grown: Trace, model: nn.Module, inputs: Any, flags: list[Flag], *, training: bool) -> bool:
    """Run a copy of a network under some flags, and return whether it ran."""
    copied = copy_with(model)
    for module in copied.modules():
        for kind, name, value in flags:
            if type(module) is kind:
                with suppress(AttributeError):  # a property without a setter
                    setattr(module, name, value)
    try:
        run(grown, copied, inputs, Recorder(grown), training=training, private=True)
    except Failure:
        return False
    return True


def _idle(grown: Trace, model: nn.Module) -> set[str]:
    """Return the names of the parameters that no op took."""
    return {name for name, _ in model.named_parameters()} - grown.read


def _modules_of(names: set[str], model: nn.Module) -> list[str]:
    """Return the outermost modules that hold none but these parameters, and the parameters in no such module."""
    inside = {path: {name for name, _ in each.named_parameters(path)} for path, each in model.named_modules() if path}
    whole = {path for path, held in inside.items() if held and held <= names}
    outermost = [path for path in inside if path in whole and path.rpartition(".")[0] not in whole]
    covered = {name for path in outermost for name in inside[path]}
    return [*outermost, *(name for name in sorted(names) if name not in covered)]


def _fix_by_user(grown: Trace, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        found = [layer for layer in grown.layers.values() if lies_in(layer.name, pattern)]
        if not found:
            known = sorted({layer.name.rpartition(".")[0] for layer in grown.layers.values()})
            raise UsageError(
                f"{named('freeze', pattern)} matches no convolution or linear layer{nearest(pattern, known)}"
            )
        for layer in found:
            grown.freeze(layer.neurons, f"fixed by the user ({pattern})")
