"""`ranp prune`: slim a network, prove it, and keep the result as a run folder."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, ended, stdout, steps
from ranp.commands._tables import print_prune, print_trial
from ranp.jobs.options import Prune
from ranp.reports import Report, Trial

EXAMPLE = "ranp prune unet3d --classes 3 --data phantom --patch 48 --sparsity 0.5 --reweight flops --out runs/small"


@command(Prune, EXAMPLE, shared=True)
def prune(options: Prune) -> None:
    """Slim MODEL: score, choose, build the smaller network, prove it.

    Neurons are scored from the gradients of a few batches; which stay follows from their scores, what their layers
    cost, and how far the network can go. The full network masked alike equals the slim one, in float64. Of a run the
    slim network, trained or not, is pruned once more.
    """
    from ranp.jobs.prune import STEPS, carry_out, keep, plan_only, prepare

    with steps("prepare", STEPS, options.batches) as (watch, track):
        prepared = prepare(options)
        if options.dry_run:
            report: Report | Trial = plan_only(prepared, watch)
        else:
            report = keep(prepared, carry_out(prepared, watch=watch, track=track))
    if options.as_json:
        emit_json(report.to_dict())
    else:
        print_prune(stdout(), report) if isinstance(report, Report) else print_trial(stdout(), report)
    ended(not isinstance(report, Report) or report.verify.passed)
