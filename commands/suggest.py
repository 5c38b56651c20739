"""`ranp suggest`: what each sparsity would cost and keep, without training."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout, steps
from ranp.commands._tables import plain_table, print_head, print_table
from ranp.figures import amount, operations, share, size
from ranp.jobs.options import Suggest


@command(Suggest, "ranp suggest unet3d --classes 3 --patch 32 --batches 2 --min-width 4")
def suggest(options: Suggest) -> None:
    """Price sparsities of MODEL without training, and warn.

    Costs and the share of scores that stays, from nothing to the largest sparsity; the knee, where most of the scores
    stay for the FLOPs that do; what limits leave; bottlenecks, a dying encoder, equal scores, scores of generated data.
    """
    from ranp.jobs.suggest import carry_out, prepare

    with steps("prepare", batches=options.batches) as (watch, track):
        found = carry_out(prepare(options), watch=watch, track=track)
    if options.as_json:
        emit_json(found.to_dict())
        return
    console = stdout()
    print_head(console, found, f", scored on {found.scored_on}")
    meters = list(found.points[0].meters)
    names = [name.replace("_", " ") for name in meters]
    table = plain_table("sparsity", "parameters", "FLOPs", "activations", *names, "scores kept", "")
    words = ["knee" if place == found.knee else "" for place in range(len(found.points))]
    rows = list(zip(found.points, words, strict=True))
    if found.within:
        rows.append((found.within, "under the limits"))
    for point, word in rows:
        costs, over = point.costs, "over a limit" if point.holds is False else ""
        table.add_row(
            f"{point.sparsity:.4f}", f"{costs.params:,}", operations(costs.flops), size(costs.memory_bytes),
            *(amount(name, point.meters[name]) for name in meters), share(point.importance),
            ", ".join(filter(None, (word, over))),
        )  # fmt: skip
    print_table(console, table)
    for line in found.chosen.lines() if found.chosen else ():
        console.print(line, soft_wrap=True, markup=False)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
