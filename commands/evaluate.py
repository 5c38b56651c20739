"""`ranp evaluate`: how good a network is on cases it was not trained on."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from ranp.commands._command import command
from ranp.commands._console import emit_json, progress, stdout
from ranp.commands._tables import SHOWN, plain_table, print_table, print_weights
from ranp.jobs.options import Evaluate


@command(Evaluate, "ranp evaluate runs/trained --data Task09_Spleen --csv spleen.csv --sheet spleen.png")
def evaluate(options: Evaluate) -> None:
    """Measure MODEL, or the network of a run folder, on data.

    Dice, IoU and surface distances of every class and case; top-1 and top-5; end-point errors of disparities.
    """
    from ranp.jobs.evaluate import evaluate as evaluated

    with progress() as bar:
        scores, found = evaluated(options, lambda cases: bar.track(cases, description="cases"))
    if options.as_json:
        emit_json(found)
    else:
        _print(stdout(), scores, found)


def _print(console: Console, scores: Any, found: dict[str, Any]) -> None:
    """Print a row for each class, or measure, and what is of all cases."""
    console.print(f"{found['model']} on {scores.source}", soft_wrap=True, markup=False)
    print_weights(console, found["weights"])
    console.print()
    print_table(console, _classes(scores) if scores.of_classes else _measures(scores))
    if scores.of_classes:
        console.print("\n" + ", ".join(f"{name} {_figure(value)}" for name, value in scores.overall.items()))
    if scores.never:
        console.print(f"in no case: {', '.join(scores.never)}", soft_wrap=True, markup=False)
    for note in scores.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    for name in ("csv", "sheet"):
        if name in found:
            console.print(f"wrote {found[name]}", soft_wrap=True, markup=False)


def _classes(scores: Any) -> Table:
    """Return of every class the mean and the deviation over its cases, and the means of those that count."""
    units = {"hd95": f"HD95 ({scores.unit})", "surface_dice": f"surface Dice at {scores.tolerance:g} {scores.unit}"}
    names = [{"dice": "Dice", "iou": "IoU", **units}.get(name, name) for name in scores.measures]
    missed = any(scores.spread(m, k).infinite for m in scores.measures for k in range(len(scores.classes)))
    table = plain_table("class", *names, "cases", *(["on one side"] if missed else []))
    for place, name in enumerate(scores.classes):
        spreads = [scores.spread(measure, place) for measure in scores.measures]
        alone = str(max(spread.infinite for spread in spreads) or "")
        table.add_row(name, *map(_spread, spreads), str(spreads[0].cases), *([alone] if missed else []))
    counted = "mean" if not scores.first else f"mean without {scores.classes[0]}"
    table.add_row(counted, *(_figure(scores.mean(measure)) for measure in scores.measures), "")
    return table


def _measures(scores: Any) -> Table:
    """Return what is of all cases: accuracies, also of a few classes, or errors with their deviation over cases."""
    if not scores.accuracy:
        table = plain_table("measure", "mean +- SD", "cases")
        for name in scores.measures:
            spread = scores.spread(name)
            table.add_row(name, _spread(spread), str(spread.cases))
        return table
    table = plain_table("measure", "of the cases")
    for name, value in scores.overall.items():
        table.add_row(name, _figure(value))
    for name, value in list(zip(scores.classes, scores.accuracy, strict=True))[:SHOWN]:
        table.add_row(f"  {name}", _figure(value))
    if len(scores.classes) > SHOWN:
        table.add_row(f"  {len(scores.classes) - SHOWN} more: see --json", "")
    return table


def _spread(spread: Any) -> str:
    return _figure(spread.mean) + ("" if math.isnan(spread.sd) else f" +- {spread.sd:.4f}")


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
