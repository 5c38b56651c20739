"""`ranp verify`: prove a run folder again."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, ended, stdout, steps
from ranp.commands._tables import print_proof
from ranp.jobs.options import Verify


@command(Verify, "ranp verify runs/small")
def verify(options: Verify) -> None:
    """Prove RUN again: its hashes, and that slim equals masked.

    The full network is rebuilt, the slim weights are put into it, what reads removed units is zeroed, and both are
    compared in float64.
    """
    from ranp.jobs.verify import prove

    with steps("verify"):
        proof = prove(options)
    emit_json(proof.to_dict()) if options.as_json else print_proof(stdout(), proof)
    ended(proof.passed)
