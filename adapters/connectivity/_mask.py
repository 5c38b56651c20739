"""Which connections of a decoder stay, as data: what a search found, kept as JSON, and carried to another encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ranp.adapters.connectivity._edges import GLOBAL, THRESHOLD, Edges, Kind, Source, apply_drop_rule, every_source
from ranp.adapters.connectivity._taps import Tap, by_stride
from ranp.errors import UsageError
from ranp.files import read_json, whole_file

Whole = Annotated[int, Field(ge=0)]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TapRecord(_Kept):
    """A `Tap`, as a file keeps it."""

    name: str
    channels: Annotated[int, Field(ge=1)]
    stride: tuple[Annotated[int, Field(ge=1)], ...]


class Edge(_Kept):
    """A connection of the search, or of what came of it.

    Args:
        stage: that it leads to, from the deepest.
        kind: "E" from the encoder, "D" from a stage, "G" from the pooled deepest feature.
        level: of the feature or the stage that it comes from.
        gate: that it was found with, in [0, 2]; None where nothing was searched.
        kept: whether it is there.
        stands_for: the stages whose outputs it brings, where some were merged into the one it comes from.
    """

    stage: Whole
    kind: Kind
    level: Whole
    gate: float | None = None
    kept: bool = True
    stands_for: tuple[Whole, ...] = ()

    @property
    def source(self) -> Source:
        """What it comes from."""
        return Source(self.kind, self.level)


class ConnectivityMask(_Kept):
    """The connections of a decoder over the features of an encoder.

    Args:
        taps: of the encoder, the deepest first.
        edges: every connection of the search, kept or not.
        width: channels of a stage.
        act: the activation before each convolution.
        threshold: of the drop rule.
        merge: whether stages with equal inputs became one.
        subset: whether stages went whose inputs and users were among those of another.
        merged: stages that were merged, and into which.
        subsumed: stages that went, and which other did their work.
        fallback: connections under the threshold that had to be kept.
        schema_version: of the file.
    """

    schema_version: Literal[1] = 1
    taps: tuple[TapRecord, ...]
    edges: tuple[Edge, ...]
    width: Annotated[int, Field(ge=1)]
    act: str
    threshold: float = THRESHOLD
    merge: bool = True
    subset: bool = True
    merged: dict[int, int] = {}
    subsumed: dict[int, int] = {}
    fallback: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[Tap, ...]:
        """The taps."""
        return tuple(Tap(tap.name, tap.channels, tap.stride) for tap in self.taps)

    @property
    def kept(self) -> Edges:
        """The inputs of each stage that stays, in the order they are added up."""
        stages = sorted({edge.stage for edge in self.edges if edge.kept})
        there = {(edge.stage, edge.source) for edge in self.edges if edge.kept}
        return {stage: tuple(source for source in every_source(stage) if (stage, source) in there) for stage in stages}

    @property
    def gap(self) -> tuple[float, float] | None:
        """The largest share of a gate at or under the threshold and the smallest above it; None without both."""
        shares = sorted(min(abs(edge.gate), 2.0) / 2 for edge in self.edges if edge.gate is not None)
        below = [share for share in shares if share <= self.threshold]
        above = [share for share in shares if share > self.threshold]
        return (below[-1], above[0]) if below and above else None

    def edge(self, stage: int, source: Source) -> Edge:
        """Return the connection of a stage from a source."""
        return next(edge for edge in self.edges if edge.stage == stage and edge.source == source)

    def said(self, stage: int, source: Source) -> str:
        """Return a source in words: layer3/16, stage at layer4/32, global."""
        if source == GLOBAL:
            return "global"
        name = str(self.features[source.level])
        return name if source.kind == "E" else f"stage at {name}"

    def save(self, path: Path | str) -> None:
        """Write the mask as JSON, whole or not at all."""
        with whole_file(Path(path)) as temporary:
            temporary.write_text(self.to_json())

    def to_json(self) -> str:
        """Return the text of the file."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a mask.

        Raises:
            UsageError: no such file, or not a mask.
        """
        try:
            mask = cls.model_validate(read_json(Path(path)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"{path}: not a connectivity mask ({where}: {first['msg'].lower()})") from None
        levels = len(mask.taps)
        wrong = next((e for e in mask.edges if e.stage >= levels or e.source not in every_source(e.stage)), None)
        if wrong is not None:
            raise UsageError(f"{path}: stage {wrong.stage} takes {wrong.source}, which is not there before it")
        if levels - 1 not in mask.kept or any(
            source.kind == "D" and source.level not in mask.kept for row in mask.kept.values() for source in row
        ):
            raise UsageError(
                f"{path}: the connections make no decoder; expected inputs for the output and what it uses"
            )
        return mask


def drop(
    gates: Sequence[Sequence[float]],
    taps: Sequence[Tap],
    *,
    width: int,
    act: str = "relu6",
    threshold: float = THRESHOLD,
    merge: bool = True,
    subset: bool = True,
    fallback: bool = True,
) -> ConnectivityMask:
    """Return the mask that the drop rule leaves of the gates of a search; arguments as `apply_drop_rule`.

    Args:
        gates: of each stage, the deepest first.
        taps: of the encoder, the deepest first.
        width: channels of a stage.
        act: the activation of the decoder.
        threshold: of the rule.
        merge: a step of it.
        subset: a step of it.
        fallback: its way out.

    Raises:
        UsageError: as `apply_drop_rule`.
    """
    left = apply_drop_rule(gates, threshold, merge=merge, subset=subset, fallback=fallback)
    share = {
        (stage, source): min(abs(gate), 2.0) / 2
        for stage, row in enumerate(gates)
        for source, gate in zip(every_source(stage), row, strict=True)
    }
    rescued = set(left.fallen_back)

    def stands_for(stage: int, source: Source) -> tuple[int, ...]:
        if source.kind != "D" or source not in left.edges.get(stage, ()):
            return ()
        into = [source.level, *(one for one, other in left.merged.items() if other == source.level)]
        brought = [level for level in into if level < stage]
        return tuple(
            level
            for level in brought
            if share[stage, Source("D", level)] > threshold or (stage, Source("D", level)) in rescued
        )

    edges = tuple(
        Edge(
            stage=stage, kind=source.kind, level=source.level, gate=gate, kept=source in left.edges.get(stage, ()),
            stands_for=stands_for(stage, source),
        )
        for stage, row in enumerate(gates)
        for source, gate in zip(every_source(stage), row, strict=True)
    )  # fmt: skip
    return ConnectivityMask(
        taps=_records(taps), edges=edges, width=width, act=act, threshold=threshold, merge=merge, subset=subset,
        merged=left.merged, subsumed=left.subsumed,
        fallback=tuple(f"{source} to stage {stage}" for stage, source in left.fallen_back),
    )  # fmt: skip


def transfer(mask: ConnectivityMask, taps: Sequence[Tap]) -> ConnectivityMask:
    """Return the connections over the features of another encoder, matched by their strides.

    A stage or feature without a match goes, with its connections; then stages that have no input or that nothing uses
    go, and the finest stage that is left becomes the output. The pooled feature is that of the other encoder's deepest.

    Args:
        mask: of the encoder that was searched.
        taps: of the other, the deepest first.

    Raises:
        UsageError: as many taps of a stride on both sides are needed; nothing fits.
    """
    matched = by_stride(mask.features, taps)
    fine = max((matched[stage] for stage in mask.kept if stage in matched), default=-1)
    own = [0, *(place for place in sorted(matched.values()) if 0 < place <= fine)]
    level = {old: own.index(new) for old, new in matched.items() if new in own}
    inputs: dict[int, set[Source]] = {stage: set() for stage in range(len(own))}
    for stage, sources in mask.kept.items():
        for source in sources:
            known = source.kind == "G" or source.level in level
            if stage in level and known:
                inputs[level[stage]].add(source if source.kind == "G" else Source(source.kind, level[source.level]))
    rows = [[2.0 if source in inputs[stage] else 0.0 for source in every_source(stage)] for stage in range(len(own))]
    try:
        left = apply_drop_rule(rows, merge=False, subset=False, fallback=False)
    except UsageError:
        strides = ", ".join(map(str, taps))
        raise UsageError(f"taps: no connection of the mask fits the features {strides}") from None
    edges = tuple(
        Edge(stage=stage, kind=source.kind, level=source.level) for stage, row in left.edges.items() for source in row
    )
    return ConnectivityMask(
        taps=_records([taps[place] for place in own]), edges=edges, width=mask.width, act=mask.act,
        threshold=mask.threshold, merge=mask.merge, subset=mask.subset,
    )  # fmt: skip


def from_edges(
    taps: Sequence[Tap], edges: Mapping[int, Sequence[Source]], width: int, act: str = "relu6"
) -> ConnectivityMask:
    """Return a mask of connections that nobody searched: a U-Net's, a published one's."""
    every = tuple(Edge(stage=stage, kind=kind, level=level) for stage, row in edges.items() for kind, level in row)
    return ConnectivityMask(taps=_records(taps), edges=every, width=width, act=act)


def _records(taps: Sequence[Tap]) -> tuple[TapRecord, ...]:
    return tuple(TapRecord(name=tap.name, channels=tap.channels, stride=tap.stride) for tap in taps)
