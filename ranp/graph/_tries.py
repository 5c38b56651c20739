"""What copies of a network do with its boolean flags switched, each tried once."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ranp.graph._reading import TRAINING, Flag, Reading, flags_of, minds_mode, read_as, watch_
from ranp.graph._recording import Recorder
from ranp.graph._run import Failure, run
from ranp.graph.tape import Run, Site
from ranp.graph.trace import Trace
from ranp.modules import copy_with


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
            self.grown.runs.pop("train")
        return tried.failure

    def anew(self, second: frozenset[Site]) -> Trace | None:
        """Return what grows from the start where views split channels otherwise."""
        tried = self._run((), self.inputs, training=False, start=Trace(second, self.grown.outputs))
        self.known[(), False] = tried
        return tried.trace if alike(tried.run, self.run) else None

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
        everything = {read_as((*key, True)) for key in flags_of(self.model)} | {TRAINING}
        start = self.grown if start is None else start
        tried = Tried(start.fork())
        failure = self._stopped(Watching(tried.trace, tried.read), flags, given, training=training)
        if failure is not None and "as child module" in str(failure.error):  # a flag was set while it was watched
            tried = Tried(start.fork(), everything)
            failure = self._stopped(Recorder(tried.trace), flags, given, training=training)
        tried.failure = failure
        if failure is None:
            tried.run = tried.trace.current
            tried.took.update(*(record.weights for record in tried.trace.current.records))
        if not flags and given is self.inputs and not training and not alike(tried.run, self.run):
            tried.read = everything
        return tried

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


def alike(run: Run | None, other: Run) -> bool:
    """Whether two runs are of the same ops, which compute with the same numbers and make the same shapes."""
    if run is None or len(run.records) != len(other.records) or not ends_alike(run, other):
        return False
    return all(a is b or a.outline == b.outline for a, b in zip(run.records, other.records, strict=True))


def ends_alike(run: Run | None, other: Run) -> bool:
    """Whether the same shapes come out at the end of two runs."""
    return run is not None and [flow.shape for flow in run.outputs] == [flow.shape for flow in other.outputs]
