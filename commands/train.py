"""`ranp train`: train a network, pruned or not, by a plain loop that can be stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ranp.commands._command import command
from ranp.commands._console import emit_json, is_quiet, stderr, stdout
from ranp.commands._tables import plain_table, print_table
from ranp.figures import operations, size
from ranp.jobs.options import Train

EXAMPLE = "ranp train runs/small --data Task09_Spleen --fold 0/5 --steps 2000 --out runs/small-trained"


@command(Train, EXAMPLE, shared=True)
def train(options: Train) -> None:
    """Train MODEL, or the slim network of a run.

    Stopped at any moment, the same command with --resume goes on to the weights it would have had.
    """
    from ranp.jobs.train import carry_out, plan_only, prepare

    prepared = prepare(options)
    if options.dry_run:
        result = plan_only(prepared)
    else:
        with display("train") as watch:
            result = carry_out(prepared, watch)
    if options.as_json:
        emit_json(result)
    else:
        _print(stdout(), result)


@contextmanager
def display(word: str) -> Iterator[Callable[[Any], None]]:
    """Yield what shows where a training stands: a bar on a terminal, else a line for every validation."""
    console = stderr()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=is_quiet() or not console.is_terminal) as bar:
        task = bar.add_task(word, total=None, said="")

        def watch(moment: Any) -> None:
            if isinstance(moment, str):
                bar.update(task, description=moment, total=None, completed=0, said="")
                if not (is_quiet() or console.is_terminal):
                    typer.echo(f"step: {moment}", err=True)
                return
            score = "" if not moment.validation else f"  score {moment.validation.get('score', float('nan')):.4f}"
            said = f"loss {moment.loss:.4f}{score}  {moment.per_second:.1f} samples/s"
            bar.update(task, description=moment.part or "train", total=moment.steps, completed=moment.step, said=said)
            if moment.measured == moment.step and not (is_quiet() or console.is_terminal):
                part = f"{moment.part}, " if moment.part else ""
                typer.echo(f"step: {part}{moment.step} of {moment.steps}, {said}", err=True)

        yield watch


def _rounds(rounds: list[dict[str, Any]]) -> Any:
    """Return what each round left, and how good it was in the end."""
    table = plain_table("round", "sparsity", "parameters", "FLOPs", "activations", "best score")
    for each in rounds:
        score = f"{each['best']['score']:.4f}" if each["best"] else "-"
        costs = f"{each['params']:,}", operations(each["flops"]), size(each["memory_bytes"])
        table.add_row(str(each["round"]), f"{each['sparsity']:.4f}", *costs, score)
    return table


def _print(console: Console, result: dict[str, Any]) -> None:
    def line(name: str, text: str) -> None:
        console.print(f"{name:13s}{text}", soft_wrap=True, markup=False)

    line("trained on", str(result["trained_on"]))
    if result.get("unseen"):
        line("not in these", ", ".join(result["unseen"]))
    line("validated on", str(result["validated_on"] or "nothing: the last weights are kept"))
    line("loss", str(result["loss"]))
    if result.get("dry_run"):
        line("steps", str(result["steps"]) + (f" in each of {result['rounds']} rounds" if result.get("rounds") else ""))
        line("dry run", f"would write {result['out']}")
        return
    if result.get("rounds"):
        print_table(console, _rounds(result["rounds"]))
    if result["validations"]:
        names = [name for name in result["validations"][-1] if name != "step"][:6]
        table = plain_table("step", *names)
        for row in result["validations"]:
            mark = " best" if row["step"] == result["best"]["step"] else ""
            table.add_row(f"{row['step']:.0f}{mark}", *(f"{row[name]:.4f}" if name in row else "-" for name in names))
        print_table(console, table)
    if result.get("never"):
        line("in no case", ", ".join(result["never"]))
    memory = result["peak_memory"]
    speed = f"{result['seconds_per_step']:.3g} s a step, {result['samples_per_second']:.3g} samples a second"
    line("speed", f"{speed}; peak memory {size(memory['bytes'])} of {memory['of']}")
    line("wrote", str(result["out"]))
