"""Prove a run folder again: rebuild the full network, put the slim weights into it, and compare the two."""

from ranp.errors import CheckFailed, UsageError
from ranp.jobs.options import Verify
from ranp.models.spec import check_trusted
from ranp.reports import Proof
from ranp.runs import HASHED, read
from ranp.surgery import verify


def prove(options: Verify) -> Proof:
    """Check the hashes of a run's plan and weights, then compare its slim network with the masked full one.

    Returns:
        The comparison, passed or not, and the hashes.

    Raises:
        CheckFailed: a file's hash is not the one stored when it was written.
        UsageError: no run folder, or the network can't be built from it.
    """
    run = read(options.run)
    if options.model is None and isinstance(named := run.config.get("model"), str):
        check_trusted(named)  # the user's to repeat, whatever else was changed
    try:
        run.check_hashes()
    except UsageError as error:
        raise CheckFailed(str(error)) from None
    full = run.full(options.model, options.settings or None)
    inputs = run.plan.example_inputs()
    slim, weights = run.slim_with(options.weights, full)
    checked = verify(
        full, slim, run.plan, inputs, inputs=options.inputs, seed=options.seed, verify_input=options.verify_input
    )
    hashes = {name: run.hashes[name] for name in HASHED}
    return Proof(run=str(run.path), model=run.config.get("model"), hashes=hashes, weights=weights, **checked.to_dict())
