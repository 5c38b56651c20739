"""Do widths that were found on one data set serve another (the paper's Table 5.5)? From the command line alone.

    python benchmarks/transfer.py runs/learning/brain runs/learning/ct

On each of the two the network is pruned; each plan is trained on both, from weights drawn anew, beside the full network
(but with --no-full). Every step is a `ranp` command, which is printed; what is there is not done again, so that a run
that was stopped goes on. The two cohorts are those of benchmarks/learning.py.
"""

import argparse
import io
import shlex
import statistics
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path

from ranp import runs
from ranp.commands.main import app

NOTHING = "nothing"


def ranp(out: Path, *words: object) -> runs.Run:
    """Run a command that writes a run folder, unless it did before, and return the run; go on with half a training."""
    half = out.exists() and not runs.read(out).training.get("done", True)
    if half or not out.exists():
        command = [*map(str, words), "--out", str(out), *(["--resume"] if half else [])]
        print("+ ranp " + shlex.join(command), file=sys.stderr, flush=True)
        with redirect_stdout(io.StringIO()):
            code = app([*command, "--quiet"], standalone_mode=False)
        if code:  # its error was printed
            sys.exit(code)
    return runs.read(out)


def trained(model: object, source: Path, out: Path, options: argparse.Namespace, seed: int, *more: object) -> runs.Run:
    """Train on a data set."""
    steps = ("--steps", options.steps, "--val-every", options.steps, "--lr", options.lr)
    fast = ("--amp", "bf16", "--channels-last")
    return ranp(out, "train", model, "--data", source, *shared(options, seed), *steps, *fast, *more)


def shared(options: argparse.Namespace, seed: int) -> tuple[object, ...]:
    return "--patch", options.patch, "--batch-size", options.batch_size, "--seed", seed


def measure(options: argparse.Namespace) -> dict[tuple[str, str], list[runs.Run]]:
    """Return the trained runs of all seeds by what was pruned on and trained on."""
    done: dict[tuple[str, str], list[runs.Run]] = {}
    for seed, on in product(options.seeds, options.sources):
        place = options.work / f"seed{seed}"
        goal = ("--flops", options.flops, "--rule", options.rule)
        settings = [word for setting in options.settings for word in ("--set", setting)]
        ranp(place / on.name, "prune", "unet3d", "--data", on, *settings, *shared(options, seed), *goal)
        for to in options.sources:
            slim = place / f"{on.name}-for-{to.name}"
            ranp(slim, "transfer", place / on.name, "--data", to, "--seed", seed)
            run = trained(slim, to, place / f"{slim.name}-trained", options, seed)
            done.setdefault((on.name, to.name), []).append(run)
        if options.full:
            run = trained("unet3d", on, place / f"{on.name}-full", options, seed, *settings)
            done.setdefault((NOTHING, on.name), []).append(run)
    return done


def table(done: dict[tuple[str, str], list[runs.Run]]) -> str:
    """Return a Markdown table, one row for each pair: mean (standard deviation) over seeds."""
    rows = ["| trained on | pruned on | parameters | FLOPs a sample | score |", "| --- | --- | --- | --- | --- |"]
    for on, to in sorted(done, key=lambda pair: (pair[1], pair[0] == NOTHING, pair[0] != pair[1])):
        runs_of = done[on, to]
        scores = [run.training["validations"][-1]["score"] for run in runs_of]
        spread = f" ({statistics.stdev(scores):.3f})" if len(scores) > 1 else ""
        params = statistics.mean(run.values["slim"]["params"] for run in runs_of)
        flops = statistics.mean(run.values["slim"]["flops"] / run.values["batch"] for run in runs_of)
        said = f"{params / 1e3:,.1f} k | {flops / 1e6:,.1f} M | {statistics.mean(scores):.3f}{spread}"
        rows.append(f"| {to} | {on} | {said} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs=2, metavar="SOURCE", help="two data sets that name their labels")
    parser.add_argument("--flops", default="10%")
    parser.add_argument("--rule", default="global")
    parser.add_argument("--patch", default="24")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of unet3d: base_width=8")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--no-full", dest="full", action="store_false", help="leave the full networks out")
    parser.add_argument("--work", type=Path, default=Path("runs/transfer"))
    print(table(measure(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
