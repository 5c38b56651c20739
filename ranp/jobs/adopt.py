"""Put trained weights of a slim network into its run, proved and hashed again."""

from typing import Any

import torch

from ranp import runs
from ranp.errors import CheckFailed, UsageError, named
from ranp.files import sha256
from ranp.jobs.options import Adopt
from ranp.models.weights import load_weights_
from ranp.modules import tensors_of
from ranp.surgery import verify


def adopt(options: Adopt) -> dict[str, Any]:
    """Load a checkpoint into the slim network of a run, prove it again, and write it there, whole or not at all.

    The masked full network must equal the slim one with the new weights too. What the report said of files exported
    with the former weights goes.

    Returns:
        run, dry_run, trained (file, sha256 and what was found in it), verify, and stale: the exported files that hold
        the former weights.

    Raises:
        UsageError: no run folder, one that was changed or can't be written, or a checkpoint that does not fit.
        CheckFailed: slim and masked network differ.
    """
    if options.weights is None:
        raise UsageError(f"{named('weights')} is missing: the trained weights of the slim network")
    said = named("weights", options.weights)
    runs.check_out(options.run, force=True, option="RUN", keeps=True)
    run = runs.read(options.run)
    full = run.full(options.model, options.settings or None)
    slim = run.slim(full)
    loaded = load_weights_(slim, options.weights)
    for name, tensor in tensors_of(slim).items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{said}: {name} holds NaN or infinite values")
    inputs = run.plan.example_inputs()
    checked = verify(full, slim, run.plan, inputs, seed=options.seed)
    if not checked.max_rel_diff <= checked.tolerance:
        raise CheckFailed(f"{said}: slim and masked network differ by {checked.max_rel_diff:.1e}")
    trained = {"file": options.weights.name, "sha256": sha256(options.weights), "loaded": loaded}
    found = {"trained": trained, "verify": checked.to_dict()}
    stale = [run.values[kind]["file"] for kind in runs.EXPORTS if isinstance(run.values.get(kind), dict)]
    if not options.dry_run:
        run.adopt(slim, found, without=runs.EXPORTS)
    return {"run": str(options.run), "dry_run": options.dry_run, **found, "stale": stale}
