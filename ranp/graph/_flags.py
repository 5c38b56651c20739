"""What boolean flags switch on: paths of a network that do not run as it is, followed so that they are tied too.

Flags are those of the network's own modules, and among the arguments of the forward (`ranp.graph._switches`). They are
switched in private copies, and each is tried once.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from ranp.errors import some
from ranp.graph._recording import Recorder
from ranp.graph._run import Failure, run
from ranp.graph._switches import (
    TRAINING,
    Flag,
    Reading,
    flags_of,
    minds_mode,
    read_as,
    switched,
    watch_,
    ways,
    words_of,
)
from ranp.graph.tape import Run, Site
from ranp.graph.trace import Trace
from ranp.modules import copy_with

SHOWN = 6  # layers, or numbers of modules, that a note names


def follow_flags(tries: "Tries") -> list[str]:
    """Follow what boolean flags and arguments of the forward switch on, so that it is tied too; say what was.

    Where parameters never ran, all modules of a class have a flag's other value at once; after each flag by itself, all
    are on or off together. Then the flags that tie layers without running further parameters.
    """
    notes: list[str] = []
    for flags, given, words in ways(tries.model, tries.inputs) if idle(tries.grown, tries.model) else ():
        for training in (False, True):
            if not (left := idle(tries.grown, tries.model)):
                break
            tried = tries.new(flags, given, training=training)
            if tried is not None and left & tried.took:
                tries.keep(flags, given, training=training)
                what = ", ".join(modules_of(left & tries.grown.read, tries.model))
                notes.append(f"off the path as it is, and coupled with it: {what}, by {words}")
    return [*notes, *_follow_switches(tries)]


def _follow_switches(tries: "Tries") -> list[str]:
    """Follow the flags that tie layers without running further parameters (a skip connection), and say which.

    One that changes how many outputs there are, or a shape of theirs, is left: it would only freeze them. What a single
    module holds is a switch of the network, and followed; what every block has is how the network is built: that slim
    networks do not run with its other value is said, as it is of a switch that would freeze channels.
    """
    notes: list[str] = []
    flags = {(kind, name): held for (kind, name), held in flags_of(tries.model).items() if "." not in name}
    for flag in switched(flags):
        tried = tries.new((flag,), training=False)
        if tried is None or not _ends_alike(tried.run, tries.run) or _alike(tried.run, tries.run):
            continue
        tied, frozen = _more_of(tried, tries.grown)
        words, what = words_of(flag), some(list(dict.fromkeys([*tied, *frozen])), SHOWN)
        if tied and not frozen and len(flags[flag[:2]]) == 1:
            tries.keep((flag,), training=False)
            notes.append(f"coupled, so that slim networks run with {words} too: {what}")
        elif tied or frozen:
            more = f"{'ties' if tied else 'freezes'} further layers ({what})"
            notes.append(f"{words} {more}: slim networks may not run with it; prune the network with it if they are to")
    return notes


def _more_of(tried: "Tried", grown: Trace) -> list[list[str]]:
    """Return the modules of the layers that ran and are tied further than before, and of those that are frozen."""
    layers = [layer for layer in grown.layers.values() if layer.name in tried.took and (layer.units >= 0).any()]
    labels = [layer.units[layer.units >= 0] for layer in layers]
    owner, every = np.repeat(np.arange(len(layers)), [*map(len, labels)]), np.concatenate([np.zeros(0, int), *labels])
    new, old = (trace.labels.find(every) for trace in (tried.trace, grown))
    count = tried.trace.labels.count  # a pair of classes as one number
    classes, counts = np.unique(np.unique(new * count + old) // count, return_counts=True)
    ties, stays = np.isin(new, classes[counts > 1]), tried.trace.stays(every) & ~grown.stays(every)
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


class Tries:
    """What copies of a network do under flags, by the flags and the mode; a try that can tell nothing new is left out.

    A flag that the network does not read on its way changes nothing, nor does training where no module asks for it.

    Args:
        grown: what the run in evaluation mode left.
        model: the network.
        inputs: of it as it is.
    """

    def __init__(self, grown: Trace, model: nn.Module, inputs: Any) -> None:
        self.grown, self.model, self.inputs, self.run = grown, model, inputs, grown.runs["eval"]
        self.known: dict[tuple[tuple[Flag, ...], bool], Tried] = {}

    def mode_matters(self) -> bool:
        """Whether the network may do anything else in training mode."""
        return any(map(minds_mode, self.model.modules())) or TRAINING in self._like((), training=False).read

    def train(self) -> Failure | None:
        """Go on with a run in training mode, or with what it left before it stopped, and return what stopped it."""
        tried = self.known[(), True] = self._run((), self.inputs, training=True)
        self.grown = tried.trace
        if tried.run is None:
            self.grown.runs.pop("train", None)
        return tried.failure

    def anew(self, second: frozenset[Site]) -> Trace | None:
        """Return what grows from the start where views split channels otherwise."""
        tried = self._run((), self.inputs, training=False, start=Trace(second, self.grown.outputs))
        self.known[(), False] = tried
        return tried.trace if _alike(tried.run, self.run) else None

    def keep(self, flags: tuple[Flag, ...], given: Any = None, *, training: bool) -> None:
        """Go on with the ties of a run; which norm is behind a layer, the path as it is says."""
        trace = self.grown.fork()
        self._stopped(Recorder(trace), flags, self.inputs if given is None else given, training=training)
        trace.runs, trace.layers = self.grown.runs, trace.layers | self.grown.layers
        self.grown = trace

    def new(self, flags: tuple[Flag, ...], given: Any = None, *, training: bool) -> "Tried | None":
        """Return what a copy does under some flags, or with some arguments; None where another run told it already."""
        if given is not None:
            return self._run(flags, given, training=training)
        told = self._like((), training=training), self._like(flags, training=False) if training else None
        tried = self._like(flags, training=training)
        return None if any(tried is other for other in told) else tried

    def _like(self, flags: tuple[Flag, ...], *, training: bool) -> "Tried":
        """Return the run that one under some flags is like."""
        if training and TRAINING not in (tried := self._like(flags, training=False)).read:
            return tried
        read = self._like((), training=training).read if flags else set()
        if len(flags) > 1:  # each by itself was tried: together they do something else where two of them are read
            read = read.union(*(tried.read for tried in self.known.values()))
        if sum(read_as(flag) in read for flag in flags) < min(len(flags), 2):
            return self._like((), training=training)
        if (flags, training) not in self.known:
            self.known[flags, training] = self._run(flags, self.inputs, training=training)
        return self.known[flags, training]

    def _run(self, flags: tuple[Flag, ...], given: Any, *, training: bool, start: Trace | None = None) -> "Tried":
        start = self.grown if start is None else start
        tried = Tried(start.fork())
        failure = self._stopped(Watching(tried.trace, tried.read), flags, given, training=training)
        if failure is not None and "as child module" in str(failure.error):  # a flag was set while it was watched
            tried = Tried(start.fork(), self._everything())
            failure = self._stopped(Recorder(tried.trace), flags, given, training=training)
        tried.failure = failure
        if failure is None:
            tried.run = tried.trace.current
            tried.took.update(*(record.weights for record in tried.trace.current.records))
        if not flags and given is self.inputs and not training and not _alike(tried.run, self.run):
            tried.read = self._everything()
        return tried

    def _everything(self) -> set[Reading]:
        return {read_as((*key, True)) for key in flags_of(self.model)} | {TRAINING}

    def _stopped(self, follower: Recorder, flags: tuple[Flag, ...], given: Any, *, training: bool) -> Failure | None:
        """Run a copy of the network under some flags, and return what stopped it, if anything."""
        copied = copy_with(self.model)
        originals = {id(held) for each in self.model.modules() for held in vars(each).values()} if flags else set()
        for module in copied.modules() if flags else ():
            for kind, name, value in flags:
                if type(module) is kind:
                    _switch_(module, name, value, originals)
        try:
            run(follower.trace, copied, given, follower, training=training, private=True)
        except Failure as failure:
            return failure
        return None


@dataclass
class Tried:
    """What a copy of a network did.

    Args:
        trace: what had grown, and what the run adds.
        read: the flags it read.
        run: what ran; None where it stopped.
        failure: what stopped it.
        took: the parameters it took.
    """

    trace: Trace
    read: set[Reading] = field(default_factory=set)
    run: Run | None = None
    failure: Failure | None = None
    took: set[str] = field(default_factory=set)


class Watching(Recorder):
    """Records a run and sees which flags are read on the way.

    Args:
        trace: what grows.
        read: told the flags.
    """

    def __init__(self, trace: Trace, read: set[Reading]) -> None:
        super().__init__(trace)
        self.read_flags = read

    def begin_(self, model: nn.Module) -> None:
        """Watch the flags of the network's own modules, and the mode of all."""
        super().begin_(model)
        for module in model.modules():
            watch_(module, self.read_flags)


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


def _alike(run: Run | None, other: Run) -> bool:
    """Whether two runs are of the same ops, which compute with the same numbers and make the same shapes."""
    if run is None or len(run.records) != len(other.records) or not _ends_alike(run, other):
        return False
    return all(a is b or a.outline == b.outline for a, b in zip(run.records, other.records, strict=True))


def _ends_alike(run: Run | None, other: Run) -> bool:
    """Whether the same shapes come out at the end of two runs."""
    return run is not None and [flow.shape for flow in run.outputs] == [flow.shape for flow in other.outputs]
