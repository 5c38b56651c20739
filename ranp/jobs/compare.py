"""What `ranp compare` asks for: the network, data and scores of a `Job`, and a sparsity that all methods share."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ranp import runs
from ranp.errors import UsageError, need
from ranp.files import check_file_place, whole_file
from ranp.jobs.prune import Job, Prepared, plan_only, ready
from ranp.pipeline._compare import FILE, METHODS, check_goal, compare
from ranp.pipeline._prune import CONVENTIONS
from ranp.version import __version__

Track = Callable[[Iterable[Any]], Iterable[Any]]
DEFAULT = "RANP-f"


@dataclass(frozen=True)
class CompareJob:
    """The options of `ranp compare`.

    Args:
        job: the network, its data, how it is scored, and what the methods share.
        sparsity: of every method.
        max_sparsity_of: the method whose largest is taken; where neither is given, that of RANP-f.
        peers: whether Torch-Pruning stands beside them.
        out: the JSON file to write, or None.
        run: the run folder that named the network and gave the options, or None.
    """

    job: Job
    sparsity: float | None = None
    max_sparsity_of: str | None = None
    peers: bool = False
    out: Path | None = None
    run: Path | None = None

    @classmethod
    def of_run(cls, asked: "CompareJob") -> "CompareJob":
        """Return the comparison of a run folder, which MODEL names: its options, its sparsity, a table beside it.

        Raises:
            UsageError: the folder is no run of `ranp prune`, or options that a run knows were given.
        """
        path, device = Path(asked.job.model), asked.job.device
        if asked.job != Job(model=asked.job.model, device=device):
            raise UsageError(f"MODEL {path}: a run knows its own network, data and scores; leave these options out")
        run = runs.read(path)
        try:
            job = Job.model_validate({**run.config, "device": device})
        except ValidationError as error:
            name = ".".join(map(str, error.errors()[0]["loc"]))
            raise UsageError(f"MODEL {path}: not a run of `ranp prune`: {name} in {runs.CONFIG}") from None
        run.check_hashes()
        shared = {"rule": "global", "weighting": "layer", "sparsity": None, "max_sparsity": False, "out": None}
        method = "mpmg" if job.method == "snip" else job.method
        goal = run.plan.choice.sparsity if asked.sparsity is None and asked.max_sparsity_of is None else asked.sparsity
        return replace(
            asked,
            job=job.model_copy(update={**shared, "method": method}),
            sparsity=goal,
            out=asked.out or path / FILE,
            run=path,
        )

    @property
    def reference(self) -> str | None:
        """The method whose largest sparsity is taken, if any."""
        return DEFAULT if self.sparsity is None and self.max_sparsity_of is None else self.max_sparsity_of

    def shared(self) -> dict[str, Any]:
        """Return the options of `select` that all methods share."""
        return {name: getattr(self.job, name) for name in ("strength", "coupling", "min_width", "align")}


class Rereadable(Iterable[Any]):
    """Batches that are wrapped anew, say by a progress bar, at every iteration."""

    def __init__(self, batches: Iterable[Any], track: Track) -> None:
        self._batches, self._track = batches, track

    def __iter__(self) -> Any:
        return iter(self._track(self._batches))


def prepare(job: CompareJob, convention: str = "standard", *, force: bool = False) -> Prepared:
    """Check everything that can be checked without work.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: Torch-Pruning, or a reader of the data, is not installed.
    """
    if convention not in CONVENTIONS:
        raise UsageError(f"--convention {convention}: expected {' or '.join(CONVENTIONS)}")
    check_goal(job.sparsity, job.reference, **job.shared())
    if job.out is not None:
        check_file_place(job.out, force=force or (job.run is not None and job.out == job.run / FILE))
    if job.peers:
        need("torch_pruning", "peers")
    asked = job.job.model_copy(update={"rule": "global", "reweight": "flops"})  # so that a preset's strength counts
    return ready(asked.resolved(), scored=True, trusted=job.run is None)


def dry(job: CompareJob, prepared: Prepared) -> dict[str, Any]:
    """Return what a dry run can say."""
    found = plan_only(prepared)
    return {**_head(job, prepared.job), "dry_run": True, "full": found["full"], "methods": ["full", *METHODS]}


def carry_out(
    job: CompareJob, prepared: Prepared, *, watch: Callable[[str], None] | None = None, track: Track | None = None
) -> dict[str, Any]:
    """Compare, write the file where one is asked for, and return its plain values.

    Raises:
        RanpError: as `compare`.
    """
    resolved = prepared.job
    assert prepared.batches is not None
    assert resolved.method is not None
    batches = prepared.batches if track is None else Rereadable(prepared.batches, track)
    found = compare(
        prepared.network, prepared.inputs, batches, prepared.loss, sparsity=job.sparsity,
        max_sparsity_of=job.reference, method=resolved.method, reduce=resolved.reduce, freeze=resolved.freeze,
        zero_conv_biases=resolved.init in ("glorot", "orthogonal"), device=resolved.device, seed=resolved.seed,
        peers=job.peers, watch=watch, **{**job.shared(), "strength": resolved.strength},
    )  # fmt: skip
    result = {**_head(job, resolved), **found.to_dict(), "ranp": __version__}
    if job.out is not None:
        with whole_file(job.out) as temporary:
            temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _head(job: CompareJob, resolved: Job) -> dict[str, Any]:
    shapes = resolved.request().shapes
    return {
        "model": resolved.model,
        "preset": resolved.preset,
        "input": [list(shape[1:]) for shape in shapes],
        "batch": shapes[0][0],
        "method": resolved.method,
        "reduce": resolved.reduce,
        "data": resolved.data,
        "batches": resolved.batches,
        "seed": resolved.seed,
        "out": None if job.out is None else str(job.out),
    }
