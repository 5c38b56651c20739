"""`ranp bench`: how long a network takes here, and in which setting least."""

from typing import Any

from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout, steps
from ranp.commands._tables import plain_table, print_table
from ranp.figures import share, spell_all
from ranp.jobs.options import Bench


@command(Bench, "ranp bench runs/brain --device cuda --batch 2")
def bench(options: Bench) -> None:
    """Time MODEL here, forwards and training steps, by setting.

    MODEL is a network or a run folder, of which the full and the slim network are measured. With --data or --images a
    case is predicted too: how much of that is loading, resampling, windows and the network.
    """
    from ranp.jobs.bench import bench as measure

    with steps("bench") as (watch, _):
        found = measure(options, watch)
    if options.as_json:
        emit_json(found)
    else:
        _print(stdout(), found)


def _print(console: Console, found: dict[str, Any]) -> None:
    from ranp.jobs.bench import words_of_setting

    head = f"{found['model']}, batch {found['batch']} of {spell_all(found['input'])} on {found['device']}"
    console.print(f"{head}, torch {found['torch']}\n", soft_wrap=True, markup=False)
    table = plain_table("network", "", "setting", "median ms", "half of the runs", "runs")
    for row in found["rows"]:
        cells = [row["network"], row["what"], words_of_setting(row)]
        if "error" in row:
            table.add_row(*cells, "-", row["error"], "")
        else:
            table.add_row(
                *cells, f"{row['median_ms']:.2f}", f"{row['low_ms']:.2f} to {row['high_ms']:.2f}", str(row["runs"])
            )
    print_table(console, table)
    console.print()
    for row in found["fastest"]:
        gain = f"{row['speedup']:.2f} times as fast as torch's default"
        if not row["clear"]:
            gain += ", which is within the noise: half of the runs of both overlap"
        text = (
            f"{row['what']} of {row['network']}: {words_of_setting(row)} is fastest, {row['median_ms']:.2f} ms, {gain}"
        )
        console.print(text, soft_wrap=True, markup=False)
    if "prediction" in found:
        parts = found["prediction"]
        said = ", ".join(f"{part} {parts[part]:.2f} s" for part in ("loading", "windows", "network", "writing"))
        text = f"prediction of a case: {parts['total']:.2f} s, {share(parts['share'])} of it the network: {said}"
        console.print(text, soft_wrap=True, markup=False)
    console.print("Times hold for this machine as busy as it is now; repeat what matters.", soft_wrap=True)
