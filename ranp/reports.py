"""What a run reports, as types: savings, widths, the proof, exported files, measured times; and the table of methods.

Everything is read as an attribute; `report["full"]["params"]` works too. What another version wrote beside it is kept.
"""

from collections.abc import Mapping
from html import escape
from statistics import fmean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field

from ranp.errors import CheckFailed, UsageError
from ranp.figures import amount, operations, saved, share, size, spell_all


class Part(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(
        extra="allow", frozen=True, populate_by_name=True, protected_namespaces=(), defer_build=True
    )

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, without what was never said."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def read(cls, values: Mapping[str, Any], where: object, what: str) -> Any:
        """Read plain values.

        Args:
            values: of a file.
            where: the file.
            what: it should hold, for the message.

        Raises:
            UsageError: they are no such report.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            reason = f"{name!r} is missing" if first["type"] == "missing" else f"{name}: {first['msg']}"
            raise UsageError(f"{where}: not a {what} of ranp: {reason}") from None


class Figures(Part):
    """Costs of a network: parameters, operations of a forward, bytes of activations, in one convention."""

    params: int
    flops: int
    memory_bytes: int


class Both(Part):
    """The same of the full and the slim network."""

    full: Figures
    slim: Figures


class Sparsity(Part):
    """The share of neurons that goes: asked for, achieved, and the largest feasible."""

    asked: float
    achieved: float
    maximum: float


class Limit(Part):
    """A limit that was asked for, and what the networks cost.

    Args:
        name: "params", "flops", "activations", "infer_memory", "train_memory" or "latency" (in microseconds).
        asked: as it was written.
        most: what it lets a network cost.
        slim: what the plan was said to cost.
        built: what the slim network costs: counted, followed or measured on itself.
        full: what the full network costs.
    """

    name: str
    asked: str
    most: int
    slim: int
    built: int
    full: int

    @property
    def used(self) -> float:
        """The share of the limit that is used up."""
        return self.built / self.most if self.most else 1.0

    def words(self) -> str:
        """Say in a line how far the network is from the limit."""
        built, most = amount(self.name, self.built), amount(self.name, self.most)
        predicted = "" if self.built == self.slim else f", {amount(self.name, self.slim)} were predicted"
        words = self.name.replace("_", " ")
        return f"{words} {self.asked}: {built} of at most {most}, {100 * self.used:.1f} % of it{predicted}"


class Chosen(Part):
    """How a plan was found under limits.

    Args:
        solver: that found it.
        importance: the share of all scores that stays.
        gap: how much more of them the best on the exact solver's grid of widths may keep, as a share.
        floor: the least width, in units or as a share.
        limits: the one that binds first.
        rounds: how many networks were built and measured for them.
        rule: that ranks units, or gives widths; reports of before it was told say nothing.
    """

    solver: str
    importance: float | None
    gap: float | None
    floor: int | str
    limits: list[Limit]
    rounds: int = 1
    rule: str = ""

    def lines(self) -> list[str]:
        """Say which limit binds and how far the others are."""
        first, *others = [limit.words() for limit in self.limits]
        kept = "" if self.importance is None else f", {share(self.importance)} of the scores kept"
        near = "" if self.gap is None else f", at most {share(self.gap)} below the best on its grid of widths"
        tried = f", the best of {self.rounds} networks that were built and measured" if self.rounds > 1 else ""
        rule = f"rule {self.rule}, " if self.rule else ""
        how = f"{rule}solver {self.solver}, least width {self.floor}{kept}{near}{tried}"
        return [f"limit that binds: {first}", *(f"limit: {each}" for each in others), how]


class Units(Part):
    """How many units there are, how many stay, and how many must, by reason."""

    total: int
    kept: int
    frozen: dict[str, int]


class Width(Part):
    """A group's width before and after, and how many of its units must stay, by reason."""

    name: str
    before: int
    after: int
    frozen: dict[str, int]


class Verification(Part):
    """How far the slim network is from the masked one, in float64 and evaluation mode.

    Args:
        max_abs_diff: largest difference over all outputs and inputs tried.
        max_rel_diff: that of each output divided by how far the output varies between the inputs.
        inputs: how many random inputs were tried.
        tolerance: largest relative difference that counts as equal.
        frozen: how many units stayed for each reason.
        uncompared: what could not be compared, in words: statistics that could not be taken over the kept channels,
            outputs that do not change with the input, or of which it is not known what stays.
        compared_input: the shape of each input, with the batch.
        outputs: how many there are.
        compared: how many of them changed with the input, so that comparing them says something.
    """

    max_abs_diff: float
    max_rel_diff: float
    inputs: int
    tolerance: float
    frozen: dict[str, int]
    uncompared: tuple[str, ...] = ()
    compared_input: list[list[int]] = Field(default_factory=list)
    outputs: int | None = None
    compared: int | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether the two agree, in something that could be compared."""
        return self.max_rel_diff <= self.tolerance and self.compared != 0

    @property
    def words(self) -> str:
        """What was found, in a line."""
        if self.compared == 0 and self.max_rel_diff <= self.tolerance:
            return "NOT PROVED: no output changes with the input, so that there is nothing to compare"
        shapes = f" of {spell_all(self.compared_input)}" if self.compared_input else ""
        return (
            f"{'verified' if self.passed else 'FAILED'}: slim = masked to {self.max_rel_diff:.1e} of how far the "
            f"outputs vary ({self.inputs} inputs{shapes}, float64)"
        )

    def require(self) -> None:
        """Do nothing unless the two differ.

        Raises:
            CheckFailed: they do not.
        """
        if not self.max_rel_diff <= self.tolerance:
            raise CheckFailed(
                f"the slim network differs from the masked one by {self.max_rel_diff:.1e} of how far its outputs vary "
                f"(tolerance {self.tolerance:.0e}): a defect in ranp, please report it"
            )


class Moved(Part):
    """Where a transferred plan comes from: the run, its input shapes, the names of the inherited tensors."""

    origin: str = Field(alias="from")
    input_before: list[list[int]]
    inherited: list[str]


class Timing(Part):
    """Milliseconds of a forward: median and fastest of some runs on a device."""

    median_ms: float
    fastest_ms: float
    runs: int
    device: str


class Latency(Part):
    """Measured times of both networks."""

    full: Timing
    slim: Timing


class Limits(Part):
    """What an exported file may differ by: of the largest output, and the share of equal classes."""

    max_rel_diff: float
    agreement: float


class Case(Part):
    """One comparison of an exported file; a difference that is not finite is None."""

    shapes: list[list[int]]
    max_abs_diff: float | None
    max_rel_diff: float | None
    agreement: float | None
    passed: bool = True


class Exported(Part):
    """An exported file and how it compares with the network."""

    file: str
    bytes: int
    sha256: str
    inputs: list[str] = Field(default_factory=list)
    sizes: dict[str, str]
    tolerance: Limits
    parity: list[Case]
    passed: bool
    note: str = ""
    opset: int | None = None
    path: str | None = None
    weights: str = ""


class Trained(Part):
    """A checkpoint of the slim network that took the place of the run's weights.

    Args:
        file: its name.
        sha256: of it.
        loaded: what was found in it, in a line.
    """

    file: str
    sha256: str
    loaded: str


class Contender(Part):
    """A candidate of a search.

    Args:
        name: its word.
        status: "won", "stayed" in the last round, "dropped", "same" as another, "infeasible", or "failed" in training.
        reason: why it is the same, infeasible or failed.
        round: the last that it was trained in, from 1; 0 where it was not.
        steps: of each training in that round.
        scores: of its trainings in that round, by seed.
        costs: of its networks, the mean over all seeds, as widths may differ between them.
        limited: what else limits are of, by name, likewise.
        step_ms: median of the milliseconds of a step over its trainings in that round.
    """

    name: str
    status: str
    reason: str = ""
    round: int = 0
    steps: int = 0
    scores: list[float] = Field(default_factory=list)
    costs: Figures | None = None
    limited: dict[str, int] = Field(default_factory=dict)
    step_ms: float | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean(self) -> float | None:
        """The mean of the scores."""
        return fmean(self.scores) if self.scores else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def spread(self) -> float | None:
        """The standard deviation of the scores over seeds."""
        return stdev(self.scores) if len(self.scores) > 1 else None


class Round(Part):
    """A round of a search: how many were trained in it, with how many seeds, for how many steps."""

    candidates: int
    seeds: int
    steps: int


class Search(Part):
    """What `ranp search` tried, and who won.

    Args:
        limits: as they were written, by name.
        seeds: of the trainings.
        rounds: in order.
        rows: the candidates; those that came further first, and the better first.
        winner: its word.
        seed: of the training whose network is kept: the best of the winner's.
        why: it won, in words.
        seconds: of planning, of every round, and of the proof.
    """

    limits: dict[str, str]
    seeds: list[int]
    rounds: list[Round]
    rows: list[Contender]
    winner: str
    seed: int
    why: str
    seconds: dict[str, float] = Field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """What the cells of `table` are."""
        more = tuple(dict.fromkeys(name for row in self.rows for name in row.limited))
        known = ("candidate", "score", "SD", "seeds", "steps", "parameters", "FLOPs", "activations")
        return (*known, *more, "ms a step", "")

    def table(self) -> list[tuple[str, ...]]:
        """Return the candidates in words, a cell for each of `columns`."""
        more = self.columns[8:-2]
        return [
            (
                row.name,
                "-" if row.mean is None else f"{row.mean:.4f}",
                "-" if row.spread is None else f"{row.spread:.4f}",
                str(len(row.scores) or "-"),
                str(row.steps or "-"),
                *(("-", "-", "-") if row.costs is None else _figures(row.costs)),
                *(amount(name, row.limited[name]) if name in row.limited else "-" for name in more),
                "-" if row.step_ms is None else f"{row.step_ms:.3g}",
                f"dropped in round {row.round}" if row.status == "dropped" else row.status,
            )
            for row in self.rows
        ]

    def reasons(self) -> list[str]:
        """Return why candidates were not trained, or could not be, a line each."""
        return [f"{row.name}: {row.reason}" for row in self.rows if row.reason]


def _figures(costs: Figures) -> tuple[str, str, str]:
    return f"{costs.params:,}", operations(costs.flops), size(costs.memory_bytes)


class Head(Part):
    """What was worked on: MODEL, its preset, the shapes of its inputs, the batch, its checkpoint, where the run is."""

    model: str | None = None
    preset: str | None = None
    input: list[list[int]] | None = None
    batch: int | None = None
    weights: str = ""
    out: str | None = None


class Report(Head):
    """What a prune saved, and the proof; costs are in the standard convention, and in the paper's too.

    Args:
        full: costs of the full network.
        slim: of the slim one.
        paper: both in the paper's convention.
        sparsity: asked, achieved and the largest feasible.
        chosen: which limit binds, where there were any.
        uniform: what uniform narrowing to the same FLOPs would be, in words.
        units: total, kept, and frozen by reason.
        groups: their widths.
        verify: the verification.
        seconds: of each step.
        notes: of the trace, the scores and the costs.
        transfer: where a transferred plan comes from.
        search: the candidates that this one won against.
        latency: measured times, where they were.
        scored_on: the data behind the scores, in words; phantoms unless asked otherwise.
        trained: where trained weights of the slim network came from, once they are in the run.
        onnx: the exported file, where there is one.
        torch_export: likewise.
        torchscript: likewise.
        hashes: of the run's files.
        ranp: the version that wrote it.
    """

    full: Figures
    slim: Figures
    paper: Both
    sparsity: Sparsity
    units: Units
    groups: list[Width]
    verify: Verification
    seconds: dict[str, float]
    notes: list[str] = Field(default_factory=list)
    chosen: Chosen | None = None
    uniform: str = ""
    transfer: Moved | None = None
    search: Search | None = None
    latency: Latency | None = None
    scored_on: str = ""
    trained: Trained | None = None
    onnx: Exported | None = None
    torch_export: Exported | None = None
    torchscript: Exported | None = None
    hashes: dict[str, str] = Field(default_factory=dict)
    ranp: str = "?"

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return what costs, of the full and the slim network, in words, and what was saved."""
        full, slim = self.full, self.slim
        return [
            ("parameters", f"{full.params:,}", f"{slim.params:,}", saved(full.params, slim.params)),
            ("FLOPs", operations(full.flops), operations(slim.flops), saved(full.flops, slim.flops)),
            (
                "activations",
                size(full.memory_bytes),
                size(slim.memory_bytes),
                saved(full.memory_bytes, slim.memory_bytes),
            ),
        ]

    def table(self) -> str:
        """Return a few lines: what costs, full and slim, the units that stay, and the proof."""
        rows = [("", "full", "slim", "saved"), *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        return "\n".join([*lines, *self._said()])

    def _said(self) -> list[str]:
        units, proof = self.units, self.verify
        frozen = f", {sum(units.frozen.values())} of them frozen" if units.frozen else ""
        return [
            f"units: {units.kept} of {units.total} kept{frozen}; sparsity {self.sparsity.achieved:.4f}",
            *self.found(),
            proof.words,
        ]

    def found(self) -> list[str]:
        """Return lines on the limits, if there were any, and on the uniform network that costs as much."""
        return [*(self.chosen.lines() if self.chosen else []), *([self.uniform] if self.uniform else [])]

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head = "".join(f"<th>{word}</th>" for word in ("", "full", "slim", "saved"))
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows())
        return f"<table><tr>{head}</tr>{body}</table><p>{'<br>'.join(map(escape, self._said()))}</p>"

    @property
    def max_abs_diff(self) -> float:
        """Largest difference between the slim network and the masked one."""
        return self.verify.max_abs_diff

    @property
    def max_rel_diff(self) -> float:
        """The same, relative to how far an output varies between inputs."""
        return self.verify.max_rel_diff


class Trial(Head):
    """What a dry run can say: the full network's costs, what is frozen, every option."""

    dry_run: bool
    full: Figures
    units: Units
    config: dict[str, Any]
    scored_on: str = ""


class Proof(Verification):
    """What `ranp verify` says of a run: its model, where its weights come from, hashes, the verification."""

    run: str
    model: str | None
    weights: str = ""
    hashes: dict[str, str]


class Point(Part):
    """A sparsity, what the network would cost there, and the share of all scores that stays.

    Args:
        sparsity: share of the neurons that the ranking drops.
        achieved: share of them that is gone.
        costs: counted.
        importance: the share of all scores that stays.
        meters: what limits of memory at its peak, in bytes, and of time, in microseconds, are of.
        holds: whether all limits are met; None without any.
    """

    sparsity: float
    achieved: float
    costs: Figures
    importance: float
    meters: dict[str, int] = Field(default_factory=dict)
    holds: bool | None = None


class Suggestion(Head):
    """What each sparsity costs and keeps, without training.

    Args:
        points: from nothing removed to the largest sparsity.
        knee: the place of the one where most of the scores stay for the FLOPs that do.
        within: the network under limits; None without any.
        chosen: which limit binds there.
        notes: what to know of the scores, and of the network under limits, or at the knee.
        scored_on: the data behind the scores, in words.
        ranp: the version that wrote it.
    """

    points: list[Point]
    knee: int
    within: Point | None = None
    chosen: Chosen | None = None
    notes: list[str] = Field(default_factory=list)
    scored_on: str = ""
    ranp: str = "?"


class Row(Part):
    """One method of a comparison.

    Args:
        name: "full", a method, or a peer.
        status: "ok", "infeasible" (the sparsity is above the method's largest) or "failed" (a peer).
        reason: why it is not ok.
        maximum: largest feasible sparsity; None for the full network and peers.
        achieved: share of the neurons that are gone.
        costs: by convention; empty where it is not ok.
        meters: what limits of memory at its peak, in bytes, and of time, in microseconds, are of.
    """

    name: str
    status: str
    reason: str
    maximum: float | None
    achieved: float | None
    costs: dict[str, Figures]
    meters: dict[str, int] = Field(default_factory=dict)


class Comparison(Head):
    """The table of methods at one sparsity.

    Args:
        sparsity: of every row; None under limits.
        sparsity_of: the method whose largest feasible sparsity that is, or None where it was given.
        limits: as they were written, by name.
        rows: the full network, then the methods, then peers where asked for.
        seconds: of each step.
        method: the full network was scored by.
        reduce: from elements to neurons.
        data: it was scored on.
        batches: how many.
        seed: of every draw.
        ranp: the version that wrote it.
    """

    sparsity: float | None
    sparsity_of: str | None
    limits: dict[str, str] = Field(default_factory=dict)
    rows: list[Row]
    seconds: dict[str, float] = Field(default_factory=dict)
    method: str = ""
    reduce: str = ""
    data: str = ""
    batches: int = 0
    seed: int = 0
    ranp: str = "?"

    @property
    def goal(self) -> str:
        """What all rows share, in words."""
        if self.sparsity is None:
            return "limits " + ", ".join(f"{name} {amount}" for name, amount in self.limits.items())
        return f"sparsity {self.sparsity:.4f}" + (f", the largest of {self.sparsity_of}" if self.sparsity_of else "")
