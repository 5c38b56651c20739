"""What `ranp compare` asks for: a network, data and scores, and a sparsity that all methods share."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ranp import __version__, runs
from ranp.errors import UsageError, named, need
from ranp.files import check_file_place, whole_file
from ranp.jobs.options import Compare, Prune, Scored
from ranp.jobs.prune import Prepared, Track, check_step, plan_only, ready
from ranp.models.folders import PRUNED, kind_of
from ranp.models.spec import check_trusted
from ranp.options import Budget, Optimizing, Selection, Shared
from ranp.pipeline import FILE, METHODS, check_goal, compare
from ranp.processes import is_first
from ranp.reports import Comparison

DEFAULT = "RANP-f"


@dataclass(frozen=True)
class Asked:
    """A comparison whose options are known to be good.

    Args:
        prepared: the network, its data, and how it is scored.
        sparsity: of every method.
        max_sparsity_of: the method whose largest is taken.
        peers: whether Torch-Pruning stands beside them.
        out: the JSON file to write, or None.
    """

    prepared: Prepared
    sparsity: float | None
    max_sparsity_of: str | None
    peers: bool
    out: Path | None


def prepare(options: Compare) -> Asked:
    """Check everything that can be checked without work.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: Torch-Pruning, or a reader of the data, is not installed.
    """
    check_step(options)
    run, loss = None, options.loss
    if kind_of(options.model) is PRUNED:
        run = Path(options.model)
        options = _of_run(run, options)
    reference = options.max_sparsity_of
    if options.sparsity is None and reference is None and not options.limits:
        reference = DEFAULT
    check_goal(options.sparsity, reference, **options.only(Budget), **options.only(Shared))
    if options.out is not None:
        check_file_place(options.out, force=options.force or (run is not None and options.out == run / FILE))
    if options.peers:
        need("torch_pruning", "peers")
    scored_by = Selection(reweight="flops")  # a preset's strength counts
    prepared = ready(options, scored_by, trusted=run is None, trusted_loss=loss is not None)
    return Asked(prepared, options.sparsity, reference, options.peers, options.out)


def _of_run(path: Path, asked: Compare) -> Compare:
    """Return the comparison of a run folder: its options, its sparsity, a table beside it.

    Raises:
        UsageError: the folder is no run of `ranp prune`, or options that a run knows were given.
    """
    own = {**Scored.model_fields, **Shared.model_fields}
    kept = [name for name in own if name not in ("model", "device", "loss")]
    if any(getattr(asked, name) != own[name].get_default() for name in kept):
        raise UsageError(
            f"{named('MODEL', path)}: a run knows its own network, data and scores; leave these options out"
        )
    run = runs.read(path)
    try:
        made = Prune.model_validate(run.config)
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise UsageError(f"{named('MODEL', path)}: not a run of `ranp prune`: {name} in {runs.CONFIG}") from None
    if asked.loss not in (None, made.loss):
        raise UsageError(
            f"{named('loss', asked.loss)}: {path} was scored with {made.loss}; leave it out, or repeat that one"
        )
    run.check_hashes()
    try:
        check_trusted(made.model)
    except UsageError:
        said = f"{named('MODEL', path)}: its network is built by a factory of your own, which no run makes ranp call"
        raise UsageError(f"{said}; name {made.model} in the place of the run, with its options") from None
    open_goal = asked.sparsity is None and asked.max_sparsity_of is None and not asked.limits
    goal = run.plan.choice.sparsity if open_goal and not made.limits else asked.sparsity
    update = {name: getattr(made, name) for name in own if name != "device"}
    update |= {"method": "mpmg" if made.method == "snip" else made.method, "sparsity": goal}
    update |= {**made.only(Budget), **made.only(Optimizing), "checkpoint": made.checkpoint} if open_goal else {}
    return asked.model_copy(update={**update, "out": asked.out or path / FILE})


def dry(asked: Asked) -> dict[str, Any]:
    """Return what a dry run can say, in plain values."""
    full = plan_only(asked.prepared).full.to_dict()
    return {**_head(asked), "dry_run": True, "full": full, "methods": ["full", *METHODS]}


def carry_out(asked: Asked, *, watch: Callable[[str], None] | None = None, track: Track | None = None) -> Comparison:
    """Compare, write the file where one is asked for, and return the table.

    Raises:
        RanpError: as `compare`.
    """
    prepared, options = asked.prepared, asked.prepared.options
    assert prepared.batches is not None
    assert options.method is not None
    table = compare(
        prepared.network, prepared.inputs, prepared.batches, prepared.loss, sparsity=asked.sparsity,
        max_sparsity_of=asked.max_sparsity_of, method=options.method, reduce=options.reduce, freeze=options.freeze,
        outputs=options.outputs,
        dead_norms=options.dead_norms,
        zero_conv_biases=options.init in ("glorot", "orthogonal"), device=options.device, seed=options.seed,
        peers=asked.peers, step=prepared.step(), watch=watch, progress=track or False,
        **options.only(Budget), **options.only(Shared),
    )  # fmt: skip
    result = Comparison(**_head(asked), **table.to_dict(), ranp=__version__)
    if asked.out is not None and is_first():
        with whole_file(asked.out) as temporary:
            temporary.write_text(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
    return result


def _head(asked: Asked) -> dict[str, Any]:
    options = asked.prepared.options
    return {
        **asked.prepared.head(),
        "method": options.method,
        "reduce": options.reduce,
        "data": options.data,
        "batches": options.batches,
        "seed": options.seed,
        "out": None if asked.out is None else str(asked.out),
    }
