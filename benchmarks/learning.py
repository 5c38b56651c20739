"""Which choice of widths learns best at one cost: rules x budgets x tasks x seeds, each pruned, trained and measured.

    python benchmarks/learning.py --brain t1.nii.gz tissue.nii.gz --ct ct.nii.gz organs.nii.gz   # what is not there yet
    python benchmarks/learning.py --table                                                        # as Markdown

Every cell is what `ranp prune` and `ranp train` do with the same words; one line of JSON a cell is added to --results,
and what stands there is not done again: a run that is stopped goes on. --part 1/2 and 2/2 share the cells among
processes. The default takes two processes on two cores about two hours; --full adds the other budgets and the full
networks. Brain and CT are cohorts of one volume each (benchmarks/cohort.py), shapes, clips and stereo are generated.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import cohort
import numpy as np
import torch
from torch import nn

from ranp import cost, models, runs
from ranp.errors import RanpError
from ranp.graph.build import trace
from ranp.inputs import generator_of
from ranp.jobs import prune as pruning
from ranp.jobs import train as training
from ranp.jobs import transfer as transferring
from ranp.jobs.options import Prune, Train, Transfer
from ranp.models.init import initialise_
from ranp.options import Selection
from ranp.pipeline import Gauges, candidate
from ranp.pipeline._peers import torch_pruned_within
from ranp.selection import Limits

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "learning.jsonl"
PEER = "Torch-Pruning, global"
FULL = "full"
BY_HAND = "uniform"
DEFAULT = "auto, the default"
RULES = (BY_HAND, "profile", "profile:1.25", "weighted", "RANP-f", PEER)
"""Rows of the table: candidates as `ranp search` names them, and a peer."""
AGAIN = "profile, drawn again"
"""The row whose slim weights are drawn anew (`ranp transfer`); all others keep those that were scored."""
VARIANTS = (
    "weighted+l1", "vanilla+l1", "profile+8", "profile+l1", AGAIN, "weighted+1", "weighted+8", "weighted+greedy",
    "isomorphic", "RANP-f:5", "RANP-m",
)  # fmt: skip
"""Further rows, which are asked for by --rules."""
BUDGETS: dict[str, dict[str, Any]] = {f"{share} FLOPs": {"flops": share} for share in ("5%", "10%", "20%")} | {
    "40% training memory": {"train_memory": "40%"},
    "10% FLOPs, equal time": {"flops": "10%"},
}
SHORT = ("5% FLOPs", "10% FLOPs")  # that are compared by default
CUTS = (*SHORT, "20% FLOPs")
EQUAL_TIME = ("10% FLOPs, equal time",)
"""Where a network, the full one too, trains for as many steps as take the time of the steps of uniform narrowing."""
PACED, TURNS = 30, 5  # steps and turns of taking that time
SEEDS = (0, 1, 2)
SAMPLES = 100  # generated ones that are measured on


@dataclass(frozen=True)
class Task:
    """A network and what it learns.

    Args:
        model: a built-in.
        settings: of it.
        data: options of `--data`, for scores and training alike.
        shapes: of a sample's inputs, (C, *spatial).
        batch_size: samples.
        steps: of the training.
        training: further options of `ranp train`.
        unit: of the measure, higher is better but for errors.
        auto: the rule that is `auto` for this network.
    """

    model: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    batch_size: int
    steps: int
    training: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "mean Dice"
    auto: str = "profile"

    @property
    def patch(self) -> str:
        """As `--patch` takes it."""
        return "x".join(map(str, self.shapes[0][1:]))

    def network(self, seed: int) -> nn.Module:
        """Build the full network with the weights that `ranp` draws."""
        network = models.build(self.model, **self.settings)
        initialise_(network, "glorot", generator_of(seed))
        return network


FAST = {"amp": "bf16", "channels_last": True}
CUBE = ((1, 24, 24, 24),)
TASKS: dict[str, Task] = {
    "shapes": Task(
        "unet3d", {"classes": 7, "in_channels": 1}, {"data": "shapes", "data_settings": {"background": True}}, CUBE, 2,
        1200, FAST,
    ),
    "brain": Task("unet3d", {"classes": 4, "in_channels": 1}, {}, CUBE, 2, 600, FAST),
    "ct": Task("unet3d", {"classes": 8, "in_channels": 1}, {}, CUBE, 2, 1200, FAST),
    "clips": Task(
        "i3d", {"classes": 8, "pool": [1, 1, 1]}, {"data": f"{HERE / 'moving.py'}:clips"}, ((3, 8, 32, 32),), 32, 400,
        {"val": f"{HERE / 'moving.py'}:held_out", "lr": 0.001}, "top-1", BY_HAND,  # the last norms see a value a clip
    ),
    "stereo": Task(
        "psm", {"maxdisp": 32, "width": 16, "pools": [8, 4, 2, 1]}, {"data": "phantom"}, ((3, 32, 64),) * 2, 2, 1200,
        {}, "EPE", BY_HAND,
    ),
}  # fmt: skip
GROUPS = {
    "brain": "grey=1,white=2,other=3",
    "ct": "spleen=1,kidneys=2-3,liver=5,bowel=18-20,vessels=52+63-68,bones=25-33+75-78+92-115,muscles=80-89",
}
SPACING, CHANNEL = {"brain": 2.0, "ct": 4.5}, {"brain": "MRI", "ct": "CT"}


@dataclass(frozen=True)
class Cell:
    """One training: its task, rule, budget, seed and steps."""

    task: str
    rule: str
    budget: str
    seed: int
    steps: int

    def key(self) -> tuple[Any, ...]:
        """What no two cells share."""
        return (self.task, self.rule, self.budget, self.seed, self.steps)


def peer(task: str, budget: str, seed: int) -> nn.Module:
    """Build the network that Torch-Pruning leaves of a task's within a budget: a factory, as MODEL names one.

    Raises:
        RanpError: it can't prune the network, or not so far.
    """
    asked = TASKS[task]
    network = asked.network(seed)
    inputs = example(asked)
    graph, gauges, asked_for = trace(network, inputs), Gauges(inputs), BUDGETS[budget]
    limits = Limits.of(graph, asked_for, gauges.price(graph, network, Selection.read(asked_for)))
    small = torch_pruned_within(network, inputs, graph, PEER, limits, seed, gauges)
    if small is None:
        raise RanpError(f"{PEER}: no ratio holds {budget}")
    return small


def example(task: Task) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros(task.batch_size, *shape) for shape in task.shapes)


def measure(cell: Cell, folders: Mapping[str, Path], work: Path) -> dict[str, Any]:
    """Prune, train and measure; return the cell's line."""
    task, place = TASKS[cell.task], work / "cell-{}-{}-{}-{}-{}".format(*cell.key())
    shutil.rmtree(place, ignore_errors=True)
    data = {"data": str(folders[cell.task])} if cell.task in folders else dict(task.data)
    shared = {**data, "patch": task.patch, "batch_size": task.batch_size, "seed": cell.seed}
    model, line, steps = chosen(cell, shared, place), dict(vars(cell)), cell.steps
    if cell.budget in EQUAL_TIME and cell.rule != BY_HAND:
        beside = chosen(replace(cell, rule=BY_HAND), shared, place / "beside")
        line["taken"] = steps = round(steps / pace((model, beside), shared, task, place))
    said = trained(model, shared, task, steps, place / "trained")
    counted = costs(runs.read(place / "trained"), task)
    shutil.rmtree(place)
    return {**line, **counted, "score": said["validations"][-1]["score"], "seconds_per_step": said["seconds_per_step"]}


def chosen(cell: Cell, shared: Mapping[str, Any], place: Path) -> dict[str, Any]:
    """Prune by a cell's rule; return the options that name the network."""
    task = TASKS[cell.task]
    built_in: dict[str, Any] = {"model": task.model, "settings": dict(task.settings)}
    if cell.rule == FULL:
        return built_in
    if cell.rule == PEER:
        asked = {"task": cell.task, "budget": cell.budget, "seed": cell.seed}
        return {"model": f"{__file__}:peer", "settings": asked, "init": "keep"}
    rule = candidate(cell.rule.partition(",")[0])
    options = {
        **built_in, **shared, **rule.options, "method": rule.method, **BUDGETS[cell.budget], "out": place / "slim",
    }  # fmt: skip
    pruned = pruning.prepare(Prune.read(options))
    pruning.keep(pruned, pruning.carry_out(pruned))
    if cell.rule != AGAIN:
        return {"model": str(place / "slim")}
    moved = transferring.prepare(Transfer.read({"run": place / "slim", "out": place / "again", "seed": cell.seed}))
    transferring.keep(moved, transferring.carry_out(moved))
    return {"model": str(place / "again")}


def trained(
    model: Mapping[str, Any], shared: Mapping[str, Any], task: Task, steps: int, out: Path, validated: bool = True
) -> dict[str, Any]:
    """Train as `ranp train` does; return what its training.json says."""
    asked = {**model, **shared, "steps": steps, "val_every": steps, "lr": 0.01, **task.training, "out": out}
    ready = training.prepare(Train.read(asked))
    assert ready.validation is not None
    ready.validation.how = replace(ready.validation.how, batches=SAMPLES // task.batch_size)  # of what is generated
    return training.carry_out(replace(ready, validation=ready.validation if validated else None))


def pace(models: tuple[Mapping[str, Any], ...], shared: Mapping[str, Any], task: Task, place: Path) -> float:
    """Return the time of a training step of the first network over that of the second, trained by turns."""
    times: list[list[float]] = [
        [trained(model, shared, task, PACED, place / f"pace-{turn}-{which}", validated=False)["seconds_per_step"]
         for which, model in enumerate(models)]
        for turn in range(TURNS)
    ]  # fmt: skip
    return statistics.median(first / second for first, second in times)


def costs(run: runs.Run, task: Task) -> dict[str, float]:
    """Return what the network that was trained costs, and its share of the full one's FLOPs and activations."""
    graph = trace(task.network(0), example(task))
    full = cost.compile(graph)(np.ones(graph.count, dtype=bool)).to_dict()
    slim, samples = run.report.slim.to_dict(), run.values["batch"] / task.batch_size  # both grow with the batch
    shares = {f"{name}_share": slim[name] / samples / full[name] for name in ("flops", "memory_bytes")}
    return {"params": slim["params"], **shares}


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of the table, seed by seed, so that a part of it is a table too."""
    for seed, budget, task in product(options.seeds, options.budgets, options.tasks):
        for rule in (*options.rules, *((FULL,) if budget in EQUAL_TIME else ())):
            yield Cell(task, rule, budget, seed, TASKS[task].steps)
    if options.full:
        for seed, task in product(options.seeds, options.tasks):
            yield Cell(task, FULL, "100%", seed, TASKS[task].steps)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """Return a Markdown table: a row for each budget and rule, a column for each task, mean (spread over seeds)."""
    lines = [line for line in lines if line["steps"] == TASKS[line["task"]].steps]  # not of shorter trainings
    tasks = [task for task in TASKS if any(line["task"] == task for line in lines)]
    rows = ["| cost | rule | " + " | ".join(f"{task}: {TASKS[task].unit} | parameters" for task in tasks) + " |"]
    rows.append("| --- " * (2 + 2 * len(tasks)) + "|")
    for budget in ["100%", *BUDGETS]:
        for rule in [FULL, *RULES, *VARIANTS]:
            entries = []
            for task in tasks:
                same = [line for line in lines if (line["task"], line["budget"], line["rule"]) == (task, budget, rule)]
                entries += _entry(same, TASKS[task])
            if any(entry != "-" for entry in entries):
                rows.append(f"| {budget} | {rule} | " + " | ".join(entries) + " |")
    return "\n".join(rows)


def paired(lines: list[dict[str, Any]]) -> str:
    """Return a Markdown table of what each rule scores above uniform narrowing of the same task, budget and seed.

    The mean over all pairs, its standard error, and how often it is better; by budget, and over all shares of the FLOPs
    of a rule that has pairs at each. Tasks measured in pixels are left out, as they have another scale, and so is what
    has no pair. The default scores what the rule has that it takes for a task's network, be it uniform narrowing.
    """
    shares = [line for line in lines if line["steps"] == TASKS[line["task"]].steps and line.get("score", -1) >= 0]
    score = {(line["rule"], line["budget"], line["task"], line["seed"]): line["score"] for line in shares}
    score |= {(DEFAULT, *place): value for (rule, *place), value in score.items() if rule == TASKS[place[1]].auto}
    gains: dict[tuple[str, str], list[float]] = {}
    for (rule, *place), value in score.items():
        if rule != BY_HAND and (BY_HAND, *place) in score:
            gains.setdefault((rule, place[0]), []).append(value - score[BY_HAND, *place])
    rows = ["| cost | rule | above uniform (standard error) | better in |", "| --- | --- | --- | --- |"]
    for budgets, rule in product([CUTS, *((budget,) for budget in BUDGETS)], [DEFAULT, *RULES, *VARIANTS]):
        parts = [gains.get((rule, budget), []) for budget in budgets]
        if not all(len(part) > 1 for part in parts):
            continue
        pairs = [gain for part in parts for gain in part]
        error = statistics.stdev(pairs) / len(pairs) ** 0.5
        better = sum(gain > 0 for gain in pairs)
        said = ", ".join(budgets)
        rows.append(f"| {said} | {rule} | {statistics.mean(pairs):+.3f} ({error:.3f}) | {better} of {len(pairs)} |")
    return "\n".join(rows)


def _entry(lines: list[dict[str, Any]], task: Task) -> list[str]:
    done = [line for line in lines if "score" in line]
    if not done:
        return ["failed" if lines else "-", "-"]
    scores = [abs(line["score"]) for line in done]
    spread = f" ({statistics.stdev(scores):.3f}, n = {len(scores)})" if len(scores) > 1 else ""
    return [
        f"{statistics.mean(scores):.3f}{spread}",
        f"{statistics.mean(line['params'] for line in done) / 1e3:,.0f} k",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brain", type=Path, nargs=2, metavar=("T1", "TISSUE"))
    parser.add_argument("--ct", type=Path, nargs=2, metavar=("CT", "ORGANS"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rules", nargs="+", choices=[*RULES, *VARIANTS], default=RULES)
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, help="all with --full, else 5 and 10 % of the FLOPs")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--full", action="store_true", help="all budgets and the full networks, which takes many hours")
    parser.add_argument("--part", default="1/1", help="k/n: the k-th of n processes that share the cells")
    parser.add_argument("--work", type=Path, default=Path("runs/learning"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    if options.table:
        lines = read(options.results)
        print(table(lines), paired(lines), sep="\n\n")
        return
    options.budgets = options.budgets or (BUDGETS if options.full else SHORT)
    folders: dict[str, Path] = {}
    for name in ("brain", "ct"):
        files = getattr(options, name)
        if name in options.tasks and files is None:
            print(f"{name}: left out, as --{name} names no volume", file=sys.stderr)
            options.tasks.remove(name)
        elif name in options.tasks:
            folders[name] = options.work / name
            if not (folders[name] / "dataset.json").exists():
                groups = cohort.read_groups(GROUPS[name])
                image, labels = files
                cohort.make(image, labels, folders[name], groups, spacing=SPACING[name], channel=CHANNEL[name])
    part, parts = map(int, options.part.split("/"))
    for number, cell in enumerate(cells(options)):
        known = {tuple(line[name] for name in vars(cell)) for line in read(options.results)}
        if number % parts != part - 1 or cell.key() in known:
            continue
        try:
            line = measure(cell, folders, options.work)
        except RanpError as error:
            line = {**vars(cell), "failed": str(error).replace(f"{HERE}/", "")}
        with options.results.open("a") as results:
            results.write(json.dumps(line) + "\n")
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
