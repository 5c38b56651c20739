"""What boolean flags switch on: paths of a network that do not run as it is, followed so that they are tied too.

Flags are those of the network's own modules, in their plain dicts and configurations, and among the arguments of the
forward. They are switched in private copies.
"""

import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from ranp.graph._run import Failure, Listing, Recorder, run
from ranp.graph.labels import FIXED
from ranp.graph.trace import Trace
from ranp.inputs import PLAIN, as_arguments
from ranp.modules import copy_with

SHOWN = 6  # layers, or numbers of modules, that a note names

Flag = tuple[type, str, bool]
"""A class of modules, an attribute of theirs, and the value that is tried."""


def follow_flags(grown: Trace, model: nn.Module, inputs: Any) -> list[str]:
    """Follow what boolean flags and arguments of the forward switch on, so that it is tied too; say what was.

    Where parameters never ran, all modules of a class have a flag's other value at once; after each flag by itself, all
    are on or off together. Then the flags that tie layers without running further parameters.
    """
    notes, known = [], dict[tuple[Flag, ...], Listing]()
    for given, flags, words in _ways(model, inputs) if idle(grown, model) else ():
        for training in (False, True):
            if not (left := idle(grown, model)):
                break
            listing = _listed(model, given, flags, training=training)
            if flags and not training:
                known[flags] = listing  # each flag by itself is asked for again
            if left & listing.took:
                _follow(grown, model, given, flags, training=training)
                what = ", ".join(modules_of(left & grown.read, model))
                notes.append(f"off the path as it is, and coupled with it: {what}, by {words}")
    return [*notes, *_follow_switches(grown, model, inputs, known)]


def _ways(model: nn.Module, inputs: Any) -> Iterator[tuple[Any, tuple[Flag, ...], str]]:
    """Yield the inputs and flags of each try, and what it is in words: flags first, then arguments of the forward."""
    flags = _flags_of(model)
    tries: list[tuple[Flag, ...]] = [(flag,) for flag in _switched(flags)]
    tries += [tuple((*flag, value) for flag in flags) for value in (True, False)] if len(flags) > 1 else []
    for tried in tries:
        yield inputs, tried, ", ".join(dict.fromkeys(map(_words, tried)))
    for name, value, given in _switched_arguments(model, inputs):
        yield given, (), f"forward({name}={value})"


def _words(flag: Flag) -> str:
    kind, name, value = flag
    return f"{kind.__name__}.{name}={value}"


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


def _follow_switches(grown: Trace, model: nn.Module, inputs: Any, known: dict[tuple[Flag, ...], Listing]) -> list[str]:
    """Follow the flags that tie layers without running further parameters (a skip connection), and say which.

    One that changes how many outputs there are, or a shape of theirs, is left: it would only freeze them. What a single
    module holds is a switch of the network, and followed; what every block has is how the network is built: that slim
    networks do not run with its other value is said, as it is of a switch that would freeze channels.
    """
    notes: list[str] = []
    flags = {(kind, name): held for (kind, name), held in _flags_of(model).items() if "." not in name}
    outline = _outline(grown)
    for flag in _switched(flags):
        listing = known.get((flag,)) or _listed(model, inputs, (flag,), training=False)
        tried, scratch = listing.steps, Trace()
        if tried in ([], outline) or tried[-1] != outline[-1]:
            continue
        _runs(Recorder(scratch), model, inputs, (flag,), training=False)
        tied, frozen = _more_of(scratch, grown)
        words, what = _words(flag), some([*tied, *frozen])
        if tied and not frozen and len(flags[flag[:2]]) == 1:
            _follow(grown, model, inputs, (flag,), training=False)
            notes.append(f"coupled, so that slim networks run with {words} too: {what}")
        elif tied or frozen:
            more = f"{'ties' if tied else 'freezes'} further layers ({what})"
            notes.append(f"{words} {more}: slim networks may not run with it; prune the network with it if they are to")
    return notes


def some(names: list[str]) -> str:
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


def idle(grown: Trace, model: nn.Module) -> set[str]:
    """Return the names of the parameters that no op took."""
    return {name for name, _ in model.named_parameters()} - grown.read


def modules_of(names: set[str], model: nn.Module) -> list[str]:
    """Return the outermost modules that hold none but these parameters, and the parameters in no such module."""
    inside = {path: {name for name, _ in each.named_parameters(path)} for path, each in model.named_modules() if path}
    whole = {path for path, held in inside.items() if held and held <= names}
    outermost = [path for path in inside if path in whole and path.rpartition(".")[0] not in whole]
    covered = {name for path in outermost for name in inside[path]}
    return [*outermost, *(name for name in sorted(names) if name not in covered)]
