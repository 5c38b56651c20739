"""What a stage of a decoder may take, and which of it stays: the drop rule of SparseMask.

Stages are counted from the deepest, 0, to the output. Stage i may take the encoder's features 0 to i (E), what the
stages before it give (D), and the deepest feature pooled over all of its pixels (G).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ranp.errors import UsageError

Kind = Literal["E", "D", "G"]
THRESHOLD = 0.001
_LARGEST = 2.0  # of a stored gate


class Source(NamedTuple):
    """An input of a stage.

    Args:
        kind: "E" a feature of the encoder, "D" the output of a stage, "G" the deepest feature, pooled.
        level: of the feature or the stage, from the deepest; 0 of "G".
    """

    kind: Kind
    level: int

    def __str__(self) -> str:
        """Return it as the names of modules have it: E3, D0, G."""
        return self.kind if self.kind == "G" else f"{self.kind}{self.level}"


GLOBAL = Source("G", 0)
Edges = dict[int, tuple[Source, ...]]


def every_source(stage: int) -> tuple[Source, ...]:
    """Return what a stage may take, in the order of the authors' gates: by level, the encoder's feature first.

    The decoder's column has G for its level 0, and the output of stage j - 1 for level j.

    >>> [str(source) for source in every_source(2)]
    ['E0', 'G', 'E1', 'D0', 'E2', 'D1']
    """
    sources: list[Source] = []
    for level in range(stage + 1):
        sources += [Source("E", level), GLOBAL if level == 0 else Source("D", level - 1)]
    return tuple(sources)


def every_edge(levels: int) -> Edges:
    """Return all connections there may be over so many features: levels * (levels + 1) of them."""
    return {stage: every_source(stage) for stage in range(levels)}


@dataclass
class Dropped:
    """What the drop rule leaves.

    Args:
        edges: the inputs of each stage that stays.
        merged: stages that took what a deeper one takes, and that deeper one.
        subsumed: stages whose inputs and users were among those of another, and that other.
        fallen_back: gates under the threshold that were kept, since the output stage had no input left.
    """

    edges: Edges
    merged: dict[int, int] = field(default_factory=dict)
    subsumed: dict[int, int] = field(default_factory=dict)
    fallen_back: tuple[tuple[int, Source], ...] = ()


def apply_drop_rule(
    gates: Sequence[Sequence[float]],
    threshold: float = THRESHOLD,
    *,
    merge: bool = True,
    subset: bool = True,
    fallback: bool = True,
) -> Dropped:
    """Return the connections that stay.

    Connections with min(|w|, 2) / 2 <= threshold go; then stages that no stage uses, and stages without an input. The
    authors' code does two more things, which their paper does not say: stages with equal inputs become one, the
    deepest, and a stage whose inputs and users are among those of another goes.

    Args:
        gates: of each stage, the deepest first, in [0, 2] and in the order of `every_source`.
        threshold: of a gate as a share of its range.
        merge: whether stages with equal inputs become one.
        subset: whether stages go whose inputs and users are among those of another.
        fallback: whether the largest gate of an output stage without any input is kept (and, if that is another stage's
            output, of that stage); the published rule leaves no network then.

    Raises:
        UsageError: not as many gates as there are connections, a threshold out of [0, 1), or no input without
            `fallback`.
    """
    if not 0 <= threshold < 1:
        raise UsageError(f"threshold={threshold:g}: expected a share from 0 to below 1")
    output = len(gates) - 1
    for stage, row in enumerate(gates):
        if len(row) != 2 * (stage + 1):
            raise UsageError(f"gates: {len(row)} of stage {stage}; expected {2 * (stage + 1)}")
    taken = {
        stage: {
            source: min(abs(gate), _LARGEST) / _LARGEST
            for source, gate in zip(every_source(stage), row, strict=True)
        }
        for stage, row in enumerate(gates)
    }  # fmt: skip
    inputs = {stage: {source for source, gate in row.items() if gate > threshold} for stage, row in taken.items()}
    dropped = _left(inputs, output, merge=merge, subset=subset)
    if dropped.edges.get(output):
        return dropped
    if not fallback:
        raise UsageError(f"threshold={threshold:g}: no connection to the output stage is left; allow the fallback")
    rescued, stage = [], output
    while True:
        source = max(taken[stage], key=lambda each: taken[stage][each])
        inputs[stage].add(source)
        rescued.append((stage, source))
        if source.kind != "D":
            break
        stage = source.level
        if inputs[stage]:
            break
    dropped = _left(inputs, output, merge=merge, subset=subset)
    dropped.fallen_back = tuple(rescued)
    return dropped


def _left(taken: Mapping[int, set[Source]], output: int, *, merge: bool, subset: bool) -> Dropped:
    """Return what is left of connections once stages that do nothing went."""
    inputs = without_unused(taken, output)
    merged = _drop_empty_(inputs, output, merge=merge)
    subsumed = _drop_subsets_(inputs, output) if subset else {}
    edges = {
        stage: tuple(source for source in every_source(stage) if source in sources)
        for stage, sources in inputs.items()
        if sources
    }
    return Dropped(edges, merged, subsumed)


def without_unused(taken: Mapping[int, set[Source]], output: int) -> dict[int, set[Source]]:
    """Return the inputs of stages, none of those that no stage with inputs uses."""
    inputs = {stage: set(sources) for stage, sources in taken.items()}
    for stage in reversed(range(output)):
        if not users_of(stage, inputs):
            inputs[stage] = set()
    return inputs


def _drop_empty_(inputs: dict[int, set[Source]], output: int, *, merge: bool) -> dict[int, int]:
    """Take stages without an input from those that use them; let stages with equal inputs be one, and say which."""
    merged: dict[int, int] = {}
    for stage in range(output):
        twin = next((deeper for deeper in range(stage) if inputs[deeper] == inputs[stage]), None)
        if not inputs[stage]:
            _replace_(stage, None, inputs)
        elif merge and twin is not None:
            _replace_(stage, twin, inputs)
            merged[stage] = twin
    return merged


def _drop_subsets_(inputs: dict[int, set[Source]], output: int) -> dict[int, int]:
    """Take out stages whose inputs and users are among those of a finer one, and say which."""
    subsumed: dict[int, int] = {}
    for stage in range(output + 1):
        for deeper in range(stage):
            takes_less = inputs[deeper] and inputs[deeper] <= inputs[stage]
            if takes_less and users_of(deeper, inputs) <= users_of(stage, inputs):
                _replace_(deeper, None, inputs)
                subsumed[deeper] = stage
    return subsumed


def _replace_(stage: int, other: int | None, inputs: dict[int, set[Source]]) -> None:
    """Let the users of a stage take another, or nothing, in its place."""
    for user in users_of(stage, inputs):
        inputs[user].discard(Source("D", stage))
        if other is not None:
            inputs[user].add(Source("D", other))
    inputs[stage] = set()


def users_of(stage: int, inputs: Mapping[int, set[Source]]) -> set[int]:
    """Return the stages that take the output of one."""
    return {user for user, sources in inputs.items() if Source("D", stage) in sources}
