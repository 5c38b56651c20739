"""trace(): from a module and example inputs to its channel graph."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranp.errors import UsageError, WrongType, check_type, named, nearest, told
from ranp.graph._check import checked
from ranp.graph._final import finalise
from ranp.graph._run import Failure, Insisting, Listing, Recorder, failed, run
from ranp.graph.graph import Graph
from ranp.graph.labels import FIXED, look_up
from ranp.graph.tape import Site
from ranp.graph.trace import Trace
from ranp.inputs import PLAIN, Inputs, as_arguments, check_outputs, describe, draw, generator_of, map_tensors
from ranp.modules import (
    check_initialised,
    check_kind,
    copy_with,
    lies_in,
    on_meta,
    tensors_of,
    undisturbed,
    unregistered,
    unwrapped,
    wrapping,
)

DRAWS = 3  # random inputs tried for the paths of a network that reads values
SHOWN = 6  # layers, or numbers of modules, that a note names
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
    shown = _some(sorted(kinds))
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
    grown, first = _started(Trace(), model, inputs, outputs)
    order = list(tensors_of(model))
    if stuck := _stuck(grown, order):  # heads whose channels all stay may go as a whole
        other, _ = _started(Trace(stuck), model, inputs, outputs)
        grown = other if _removable(other, order) > _removable(grown, order) else grown
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
    graph, table = finalise(grown, order)
    graph = checked(graph, model, inputs, [(look_up(table, labels), why) for labels, why in grown.checked])
    if names := [size.name for size in graph.sizes if not graph.frozen[size.units[size.units >= 0]].all()]:
        notes.append(f"numbers that count channels, set in the slim network: {_some(names)}")
    return replace(graph, notes=tuple(notes))


def _started(grown: Trace, model: nn.Module, inputs: Any, outputs: tuple[int, ...]) -> tuple[Trace, Recorder]:
    """Run a network in evaluation mode and return what grew."""
    grown.outputs = outputs
    first = Recorder(grown)
    run(grown, model, inputs, first, training=False)
    check_outputs(outputs, first.given)
    return grown, first


def _stuck(grown: Trace, order: list[str]) -> frozenset[Site]:
    """Return where views split channels of which those that follow are frozen and others could."""
    if not grown.splits:
        return frozenset()
    graph, table = finalise(grown, order)
    return frozenset(site for site, labels in grown.splits if look_up(graph.frozen, look_up(table, labels), True).all())


def _removable(grown: Trace, order: list[str]) -> int:
    """Return how many channels of layers may go."""
    graph, _ = finalise(grown, order)
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
    """
    notes: list[str] = []
    flags = _flags_of(model)
    tried: list[tuple[Flag, ...]] = [(flag,) for flag in _switched(flags)]
    tried += [tuple((*flag, value) for flag in flags) for value in (True, False)] if len(flags) > 1 else []

    @cache  # every flag by itself is asked for again
    def listed(flags: tuple[Flag, ...], *, training: bool) -> Listing:
        return _listed(model, inputs, flags, training=training)

    for flags_now in tried if _idle(grown, model) else []:
        for training in (False, True):
            idle = _idle(grown, model)
            if not idle or not idle & listed(flags_now, training=training).took:
                continue
            _follow(grown, model, inputs, flags_now, training=training)
            words = ", ".join(dict.fromkeys(f"{kind.__name__}.{name}={value}" for kind, name, value in flags_now))
            what = ", ".join(_modules_of(idle & grown.read, model))
            notes.append(f"off the path as it is, and coupled with it: {what}, by {words}")
    return [*notes, *_by_arguments(grown, model, inputs), *_by_switches(grown, model, inputs, listed)]


def _by_arguments(grown: Trace, model: nn.Module, inputs: Any) -> list[str]:
    """Follow what boolean arguments of the forward switch on, where parameters never ran; say what was."""
    notes: list[str] = []
    for name, value, given in _switched_arguments(model, inputs) if _idle(grown, model) else []:
        for training in (False, True):
            idle = _idle(grown, model)
            if idle and idle & _listed(model, given, (), training=training).took:
                _follow(grown, model, given, (), training=training)
                what = ", ".join(_modules_of(idle & grown.read, model))
                notes.append(f"off the path as it is, and coupled with it: {what}, by forward({name}={value})")
    return notes


def _switched_arguments(model: nn.Module, inputs: Any) -> Iterator[tuple[str, bool, Any]]:
    """Yield each boolean argument of the forward that the inputs leave out, its other value, and inputs with that."""
    signature, (args, kwargs) = inspect.signature(model.forward), as_arguments(inputs)
    kinds = {each.kind for each in signature.parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
        return
    with suppress(TypeError):  # they do not fit, which the run has said
        bound = signature.bind(*args, **kwargs)
        placed = list(signature.parameters)[: len(bound.args)]
        given = {**dict(zip(placed, bound.args, strict=True)), **bound.kwargs}
        for name, each in signature.parameters.items():
            if isinstance(each.default, bool) and name not in given and not _ACTS.search(name.lower()):
                yield name, not each.default, {**given, name: not each.default}


def _by_switches(grown: Trace, model: nn.Module, inputs: Any, listed: Callable[..., Listing]) -> list[str]:
    """Follow the flags that tie layers without running further parameters (a skip connection), and say which.

    One that changes how many outputs there are, or a shape of theirs, is left: it would only freeze them. What a single
    module holds is a switch of the network, and followed; what every block has is how the network is built: that slim
    networks do not run with its other value is said, as it is of a switch that would freeze channels.
    """
    notes: list[str] = []
    flags = {(kind, name): held for (kind, name), held in _flags_of(model).items() if "." not in name}
    outline = _outline(grown)
    for flag in _switched(flags):
        (kind, name, value), tried, scratch = flag, listed((flag,), training=False).steps, Trace()
        if tried in ([], outline) or tried[-1] != outline[-1]:
            continue
        _runs(Recorder(scratch), model, inputs, (flag,), training=False)
        tied, frozen = _more_of(scratch, grown)
        words, what = f"{kind.__name__}.{name}={value}", _some([*tied, *frozen])
        if tied and not frozen and len(flags[kind, name]) == 1:
            _follow(grown, model, inputs, (flag,), training=False)
            notes.append(f"coupled, so that slim networks run with {words} too: {what}")
        elif tied or frozen:
            more = f"{'ties' if tied else 'freezes'} further layers ({what})"
            notes.append(f"{words} {more}: slim networks may not run with it; prune the network with it if they are to")
    return notes


def _some(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _outline(grown: Trace) -> list[Any]:
    """Return the ops of a run in evaluation mode with the shapes they make, and the shapes that come out at the end."""
    run = grown.runs["eval"]
    ops = [(record.op, record.scalars, [flow.shape for flow in record.outputs]) for record in run.records]
    return [*ops, [flow.shape for flow in run.outputs]]


def _more_of(tried: Trace, grown: Trace) -> tuple[list[str], list[str]]:
    """Return the modules of the layers that one trace ties further than another, and of those that it freezes."""
    names = [name for name in grown.layers if name in tried.layers]
    sides = [[trace.labels.find(trace.layers[name].units) for name in names] for trace in (tried, grown)]
    pairs = np.unique(np.stack([np.concatenate([*side, [FIXED]]) for side in sides]), axis=1)
    classes, counts = np.unique(pairs[0], return_counts=True)
    spans = classes[(counts > 1) & (classes >= 0)]
    stays, stayed = (
        np.unique(trace.labels.find(np.concatenate([[FIXED], *(each for each, _ in trace.frozen)])))
        for trace in (tried, grown)
    )
    rows = list(zip((grown.layers[name].module for name in names), *sides, strict=True))
    tied = [module for module, new, _ in rows if np.isin(new, spans).any()]
    return tied, [module for module, new, old in rows if (np.isin(new, stays) & ~np.isin(old, stayed)).any()]


def _follow(grown: Trace, model: nn.Module, inputs: Any, flags: tuple[Flag, ...], *, training: bool) -> None:
    """Run under some flags, of which only the ties stay: which norm is behind a layer, the path as it is says."""
    runs, layers = dict(grown.runs), {name: replace(layer) for name, layer in grown.layers.items()}
    _runs(Recorder(grown), model, inputs, flags, training=training)
    grown.runs = runs
    for name, layer in layers.items():
        grown.layers[name].norm, grown.layers[name].bias = layer.norm, layer.bias


def _flags_of(model: nn.Module) -> dict[tuple[type, str], list[bool]]:
    """Return the flags of a network's own modules, and the value of each in every module of the class."""
    held: dict[tuple[type, str], list[bool]] = {}
    for module in model.modules():
        if not type(module).__module__.startswith("torch."):
            for name, value in _bools(module):
                held.setdefault((type(module), name), []).append(value)
    return held


def _switched(flags: dict[tuple[type, str], list[bool]]) -> list[Flag]:
    """Return each flag with each value that not all modules of its class have."""
    return [(*key, value) for key, held in flags.items() for value in (True, False) if {value} != set(held)]


def _bools(module: nn.Module) -> Iterator[tuple[str, bool]]:
    """Yield the flags that a module or its class holds, and those in its plain dicts and objects, as `config.aux`."""
    for key, held in vars(module).items():
        for name, value in _held(held).items() if key not in _OWN else ():
            if (
                type(name) is str
                and type(value) is bool
                and not name.startswith("_")
                and not _ACTS.search(name.lower())
            ):
                yield f"{key}.{name}", value
    own = {name: value for kind in reversed(type(module).__mro__) for name, value in vars(kind).items()}
    for name, value in {**own, **vars(module)}.items():
        hidden = hasattr(nn.Module, name) or name in _OWN or name.startswith("__") or _ACTS.search(name.lower())
        if isinstance(value, bool) and not hidden:
            yield name, value


def _held(value: Any) -> dict[Any, Any]:
    """Return what a plain dict or object, such as a configuration, holds by name."""
    if type(value) is dict:
        return value
    plain = not isinstance(value, (*PLAIN, Tensor, nn.Module, ModuleType)) and type(value).__module__ != "builtins"
    return dict(getattr(value, "__dict__", {})) if plain and not type(value).__module__.startswith("torch") else {}


def _switch_(module: nn.Module, name: str, value: bool, originals: set[int]) -> None:
    """Set a flag of a private copy, unless what holds it could not be copied."""
    key, _, inner = name.partition(".")
    held = vars(module).get(key) if inner else module
    if id(held) in originals:
        return
    with suppress(AttributeError):  # a property without a setter
        if type(held) is dict:
            held[inner] = value
        else:
            setattr(held, inner or key, value)


_ACTS = re.compile("debug|verbose|print|plot|draw|show|save|write|dump|profil|visuali|logging")
"""In the names of flags that are never switched: what they switch on acts outside of the network."""
_OWN = frozenset(vars(nn.Module()))


def _listed(model: nn.Module, inputs: Any, flags: tuple[Flag, ...], *, training: bool) -> Listing:
    """Return what a copy of a network does under some flags; nothing where it does not run."""
    listing = Listing(Trace())
    return listing if _runs(listing, model, inputs, flags, training=training) else Listing(Trace())


def _runs(
    follower: Recorder | Listing, model: nn.Module, inputs: Any, flags: tuple[Flag, ...], *, training: bool
) -> bool:
    """Run a copy of a network under some flags, and return whether it ran."""
    copied, originals = copy_with(model), {id(held) for each in model.modules() for held in vars(each).values()}
    for module in copied.modules():
        for kind, name, value in flags:
            if type(module) is kind:
                _switch_(module, name, value, originals)
    try:
        run(follower.trace, copied, inputs, follower, training=training, private=True)
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
            grown.freeze(layer.units, f"fixed by the user ({pattern})")
