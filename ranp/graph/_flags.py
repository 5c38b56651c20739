"""What boolean flags switch on: paths of a network that do not run as it is, followed so that they are tied too.

Flags are those of the network's own modules (`ranp.graph._reading`), and among the arguments of the forward. They are
switched in private copies.
"""

import inspect
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from torch import nn

from ranp.graph._reading import ACTS, Flag, flags_of, switched
from ranp.graph._tries import Tries, alike, ends_alike
from ranp.graph.trace import Trace
from ranp.inputs import as_arguments

SHOWN = 6  # layers, or numbers of modules, that a note names


def follow_flags(tries: Tries) -> list[str]:
    """Follow what boolean flags and arguments of the forward switch on, so that it is tied too; say what was.

    Where parameters never ran, all modules of a class have a flag's other value at once; after each flag by itself, all
    are on or off together. Then the flags that tie layers without running further parameters.
    """
    notes: list[str] = []
    for flags, given, words in _ways(tries.model, tries.inputs) if idle(tries.grown, tries.model) else ():
        for training in (False, True):
            if not (left := idle(tries.grown, tries.model)):
                break
            tried = tries.new(flags, given, training=training)
            if tried is not None and left & tried.took:
                tries.keep(flags, given, training=training)
                what = ", ".join(modules_of(left & tries.grown.read, tries.model))
                notes.append(f"off the path as it is, and coupled with it: {what}, by {words}")
    return [*notes, *_follow_switches(tries)]


def _ways(model: nn.Module, inputs: Any) -> Iterator[tuple[tuple[Flag, ...], Any, str]]:
    """Yield the flags or the inputs of each try, in words too: flags first, then arguments of the forward."""
    flags = switched(flags_of(model))
    tries: list[tuple[Flag, ...]] = [(flag,) for flag in flags]
    tries += [tuple(flag for flag in flags if flag[2] is value) for value in (True, False)]
    for tried in tries:
        yield tried, None, ", ".join(dict.fromkeys(map(_words, tried)))
    for name, value, given in _other_arguments(model, inputs):
        yield (), given, f"forward({name}={value})"


def _words(flag: Flag) -> str:
    kind, name, value = flag
    return f"{kind.__name__}.{name}={value}"


def _other_arguments(model: nn.Module, inputs: Any) -> Iterator[tuple[str, bool, Any]]:
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
            if isinstance(each.default, bool) and name not in given and not ACTS.search(name.lower()):
                yield name, not each.default, {**given, name: not each.default}


def _follow_switches(tries: Tries) -> list[str]:
    """Follow the flags that tie layers without running further parameters (a skip connection), and say which.

    One that changes how many outputs there are, or a shape of theirs, is left: it would only freeze them. What a single
    module holds is a switch of the network, and followed; what every block has is how the network is built: that slim
    networks do not run with its other value is said, as it is of a switch that would freeze channels.
    """
    notes: list[str] = []
    flags = {(kind, name): held for (kind, name), held in flags_of(tries.model).items() if "." not in name}
    for flag in switched(flags):
        tried = tries.new((flag,), training=False)
        if tried is None or not ends_alike(tried.run, tries.run) or alike(tried.run, tries.run):
            continue
        tied, frozen = _more_of(tried.trace, tries.grown)
        words, what = _words(flag), some([*tied, *frozen])
        if tied and not frozen and len(flags[flag[:2]]) == 1:
            tries.keep((flag,), training=False)
            notes.append(f"coupled, so that slim networks run with {words} too: {what}")
        elif tied or frozen:
            more = f"{'ties' if tied else 'freezes'} further layers ({what})"
            notes.append(f"{words} {more}: slim networks may not run with it; prune the network with it if they are to")
    return notes


def some(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _more_of(tried: Trace, grown: Trace) -> list[list[str]]:
    """Return the modules of the layers that one trace ties further than another, and of those that it freezes."""
    layers = [layer for layer in grown.layers.values() if (layer.units >= 0).any()]
    labels = [layer.units[layer.units >= 0] for layer in layers]
    owner, every = np.repeat(np.arange(len(layers)), [*map(len, labels)]), np.concatenate([np.zeros(0, int), *labels])
    new, old = (trace.labels.find(every) for trace in (tried, grown))
    classes, counts = np.unique(np.unique(new * tried.labels.count + old) // tried.labels.count, return_counts=True)
    ties, stays = np.isin(new, classes[counts > 1]), tried.stays(every) & ~grown.stays(every)
    return [[layers[index].module for index in np.unique(owner[told])] for told in (ties, stays)]


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
