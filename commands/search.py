"""`ranp search`: find the way to choose whose network learns best under limits, on the user's data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import Watch, emit_json, is_quiet, progress, stderr, stdout
from ranp.commands._tables import plain_table, print_prune, print_search, print_table
from ranp.jobs.options import Search

EXAMPLE = "ranp search unet3d --data Task09_Spleen --fold 0/5 --patch 96 --flops 10% --steps 2000 --out runs/found"


@command(Search, EXAMPLE, shared=True)
def search(options: Search) -> None:
    """Train ways to slim MODEL briefly, and keep the best one.

    Every candidate is cut to the limits and trained on the data; the worse are dropped round by round, uniform
    narrowing never. Within the noise the simpler wins. Stopped at any moment, the same command with --resume goes on.
    """
    from ranp.jobs.search import carry_out, plan_only, prepare

    prepared = prepare(options)
    if options.dry_run:
        trial = plan_only(prepared)
        emit_json(trial) if options.as_json else _print_trial(stdout(), trial)
        return
    with _display() as (watch, follow):
        report = carry_out(prepared, watch=watch, follow=follow)
    if options.as_json:
        emit_json(report.to_dict())
    else:
        assert report.search is not None
        print_search(stdout(), report.search)
        stdout().print()
        print_prune(stdout(), report)


@contextmanager
def _display() -> Iterator[tuple[Watch, Callable[[Any], None]]]:
    """Yield what shows where a search stands: a bar on a terminal, else a line for every round and training."""
    drawn = stderr().is_terminal
    with progress() as bar:
        shown = bar.add_task("prepare", total=None)

        def say(line: str) -> None:
            if not is_quiet():
                bar.console.print(line, markup=False) if drawn else typer.echo(f"step: {line}", err=True)

        def watch(step: str) -> None:
            bar.update(shown, description=step)
            if not drawn or step.startswith("round"):
                say(step)

        def follow(at: Any) -> None:
            task, moment = at.task, at.moment
            place = f"round {task.round} of {task.rounds}, training {task.number} of {task.count}"
            said = f"{place}: {task.candidate}, seed {task.seed}"
            bar.update(shown, description=said, total=moment.steps, completed=moment.step)
            if moment.step == moment.steps:
                say(f"{said}: score {moment.validation.get('score', float('nan')):.4f}")

        yield watch, follow


def _print_trial(console: Console, trial: dict[str, Any]) -> None:
    console.print(f"candidates   {', '.join(trial['candidates'])}", soft_wrap=True, markup=False)
    console.print(f"trained on   {trial['trained_on']}", soft_wrap=True, markup=False)
    console.print(f"validated on {trial['validated_on']}", soft_wrap=True, markup=False)
    table = plain_table("round", "candidates", "seeds", "steps")
    for number, each in enumerate(trial["rounds"], start=1):
        table.add_row(str(number), str(each["candidates"]), str(each["seeds"]), str(each["steps"]))
    print_table(console, table)
    console.print(f"dry run: would write {trial['out']}", soft_wrap=True, markup=False)
