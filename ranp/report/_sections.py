"""The parts of a page about one run."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ranp.figures import operations, saved, size, spell_all
from ranp.files import sha256
from ranp.inputs import specs
from ranp.plan import Choice, Plan
from ranp.report._charts import Axis, Bar, bars, nested, ranges, short
from ranp.report._markup import Content, Html, element, joined
from ranp.report._reproduce import command_parts
from ranp.reports import Both, Comparison, Exported, Head, Latency, Report, Row
from ranp.runs import HASHED, Run

COSTS = (
    ("params", "Parameters", "{:,}".format),
    ("flops", "FLOPs of a forward", operations),
    ("memory_bytes", "Activation memory", size),
)
STAGES = (
    ("scores", "Before weighting", "score"),
    ("weighted", "After weighting (Eq. 5.9)", "weighted score"),
    ("reweighted", "After reweighting (Eq. 5.10)", "reweighted score"),
)


def section(title: str, *content: Content) -> Html:
    """Return a part of the page under its heading."""
    return element("section", element("h2", title), *content)


def heading(head: Head) -> str:
    """Return the network in words, with its preset."""
    return f"{head.model} ({head.preset})" if head.preset else str(head.model)


def network(run: Run) -> str:
    """Return a run's network in words; a run saved from Python may know its class alone."""
    return heading(run.report) if run.report.model else run.plan.model


def inputs(run: Run) -> str:
    """Return the batch and shapes that costs are counted at."""
    shapes = [spec.shape for spec in specs(run.plan.inputs)]
    return f"batch {shapes[0][0]} of {spell_all(shape[1:] for shape in shapes)}"


def savings(run: Run) -> Html:
    """Return what was saved: each cost before and after."""
    report = run.report
    full, slim, sparsity, units = report.full, report.slim, report.sparsity, report.units
    cards = []
    for key, name, write in COSTS:
        rows = [Bar("full", full[key], write(full[key]), "full"), Bar("slim", slim[key], write(slim[key]))]
        less = element("div", f"{saved(full[key], slim[key])} saved", class_="big")
        cards.append(element("div", element("h3", name), less, bars(rows)))
    words = (
        f"Sparsity asked {sparsity.asked:.4f}, achieved {sparsity.achieved:.4f}, largest feasible "
        f"{sparsity.maximum:.4f}. {units.kept} of {units.total} units stay."
    )
    note = (
        "FLOPs count two for a multiply-accumulate and every op; memory is what a forward stores, for the batch above."
    )
    return section(
        "What was saved",
        element("div", cards, class_="grid-of"),
        element("p", words),
        element("p", note, class_="dim"),
        _published(report.paper),
    )


def _published(paper: Both) -> Html:
    full, slim = paper.full, paper.slim
    words = ", ".join(
        f"{name} {write(full[key])} → {write(slim[key])}"
        for key, name, write in (
            ("flops", "operations", operations),
            ("memory_bytes", "memory", size),
        )
    )
    return element("p", f"In the convention of the published tables: {words}.", class_="dim")


def comparison(table: Comparison) -> Html:
    """Return the methods side by side, as `ranp compare` found them."""
    scored = f"scored by {table.method} on {table.batches} batches of {table.data}"
    words = f"{heading(table)}, batch {table.batch} of {spell_all(table.input or [])}, {scored}; all at "
    charts = [
        element("div", element("h3", name), bars([_method(row, key, write) for row in table.rows]))
        for key, name, write in COSTS
    ]
    return section(
        "Methods under the same limits" if table.sparsity is None else "Methods at the same sparsity",
        element("p", f"{words}{table.goal}."),
        element("div", charts, class_="grid-of"),
        element("h3", "Figures"),
        _comparison_table(table.rows),
        element("ul", (element("li", f"{row.name}: {row.reason}") for row in table.rows if row.reason)),
        element("p", "SNIP drops weight elements; a neuron goes when all of its elements do.", class_="dim"),
    )


def search(run: Run) -> Html | None:
    """Return the candidates of a search that this run won, with their scores and costs; None without one."""
    tried = run.report.search
    if tried is None:
        return None
    scored = [row for row in tried.rows if row.mean is not None]
    least = min([0.0, *(row.mean or 0.0 for row in scored)])  # a negative error is drawn from the worst on
    rows = [
        Bar(row.name, (row.mean or 0.0) - least, f"{row.mean:.4f}", "slim" if row.status == "won" else "other")
        for row in scored
    ]
    limits = ", ".join(f"{name} {amount}" for name, amount in tried.limits.items())
    stages = "; ".join(f"{each.candidates} candidates, {each.seeds} seeds, {each.steps} steps" for each in tried.rounds)
    return section(
        "What it won against",
        element("p", f"Trained under limits ({limits}) in rounds: {stages}. {tried.why}."),
        bars(rows),
        table(tried.columns, tried.table(), text=(len(tried.columns) - 1,)),
        element("ul", (element("li", reason) for reason in tried.reasons())),
        element("p", "Scores of different rounds are of trainings of different lengths.", class_="dim"),
    )


def _method(row: Row, key: str, write: Any) -> Bar:
    if row.status != "ok":
        return Bar(row.name, 0, row.status)
    value = row.costs["standard"][key]
    colour = "full" if row.name == "full" else "other" if row.maximum is None else "slim"  # a peer has no maximum
    return Bar(row.name, value, write(value), colour)


def _comparison_table(rows: Iterable[Row]) -> Html:
    cells = []
    for row in rows:
        largest = "-" if row.maximum is None else f"{row.maximum:.4f}"
        if row.status == "ok":
            costs = row.costs["standard"]
            figures = [write(costs[key]) for key, _, write in COSTS] + [f"{row.achieved:.4f}"]
        else:
            figures = [row.status, "-", "-", "-"]
        cells.append([row.name, *figures, largest])
    return table(("method", "parameters", "FLOPs", "activations", "achieved", "largest feasible"), cells)


def table(head: Sequence[str], rows: Iterable[Iterable[Content]], text: Collection[int] = ()) -> Html:
    """Return a table that scrolls by itself where the page is narrow; columns of `text` begin at the left."""
    kinds = ["text" if index in text else None for index in range(len(head))]
    top = element("tr", (element("th", word, scope="col", class_=kind) for word, kind in zip(head, kinds, strict=True)))
    body = (
        element("tr", (element("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows
    )
    return element("div", element("table", element("thead", top), element("tbody", *body)), class_="scroll")


def legend(*entries: tuple[str, str]) -> Html:
    """Return what colours mean: (kind, words)."""
    keys = (element("span", element("i", class_=f"key {kind}"), words) for kind, words in entries)
    return element("p", *keys, class_="dim legend")


def widths(plan: Plan) -> Html:
    """Return the width of every group before and after."""
    rows = []
    for group in plan.groups:
        before, after = group.width, len(group.kept)
        text = f"{before} → {after}" if after < before else f"{before}, whole"
        rows.append((group.name, [("full", before), ("slim", after)], text))
    largest = max(group.width for group in plan.groups)
    return section(
        "Widths before and after",
        element("p", "A group is named for the first layer that makes its channels.", class_="dim"),
        legend(("full", "channels before"), ("slim", "channels after")),
        nested(rows, largest),
    )


def scores(plan: Plan) -> Html | None:
    """Return the importance of each layer before weighting, after it and after reweighting."""
    if not plan.scores:
        return None
    stages = {"scores": plan.scores, **plan.stages}
    # One axis for both stages shows what reweighting does.
    shared = Axis.of(summary for stage in plan.stages.values() for summary in stage.values())
    # In the order of the network's groups; the file has them by name.
    ordered = [name for group in plan.groups for name in group.layers if name in plan.scores]
    layers = list(dict.fromkeys([*ordered, *plan.scores]))
    panels = []
    for key, title, unit in STAGES:
        if key not in stages:
            continue
        axis = Axis.of(stages[key].values()) if key == "scores" else shared
        rows = [(name.removesuffix(".weight"), stages[key][name], _behind(plan, key, name)) for name in layers]
        panels.append(element("div", element("h3", title), ranges(rows, axis, unit)))
    choice = plan.choice
    how = f"{choice.method}, {choice.reduce} over a neuron's elements, mean over {choice.batches} batches"
    words = f"Scores: {how}. A line spans a layer's scores, the dot is the mean, the number behind."
    if "reweighted" in stages:
        words += " After reweighting the number is the factor, larger for layers that use little."
    return section("Importance by layer", element("p", words), element("div", panels, class_="grid-of"))


def _behind(plan: Plan, stage: str, name: str) -> str:
    if stage != "reweighted":
        return short((plan.scores if stage == "scores" else plan.stages[stage])[name]["mean"])
    before = plan.stages.get("weighted", plan.scores)[name]["mean"]
    return f"x {plan.stages[stage][name]['mean'] / before:.2f}" if before else "-"


def choice(run: Run) -> Html:
    """Return the options the units were chosen by, the data behind the scores, and where the weights come from."""
    made = run.plan.choice
    entries = [("rule", made.rule), ("scores", f"{made.method}, {made.reduce}" if made.method else "none")]
    if made.rule == "global":
        entries.append(("weighting", "by layer (Eq. 5.9)" if made.weighting == "layer" else "none (vanilla)"))
    if made.reweight:
        entries.append(("reweighting", f"by {made.reweight}, lambda {made.strength:g} (Eq. 5.10)"))
    entries += [("coupling", made.coupling), ("least width", str(made.min_width)), ("align", str(made.align))]
    entries.append(("goal", _goal(made)))
    entries += [("scored on", run.report.scored_on)] if run.report.scored_on else []
    entries += [("weights", run.weights_are)] if run.weights_are else []
    return section("How it was chosen", definitions(entries))


def definitions(entries: Iterable[tuple[str, Content]]) -> Html:
    """Return words and what they are."""
    return element("dl", (joined(element("dt", word), element("dd", meaning)) for word, meaning in entries))


def frozen(run: Run) -> Html:
    """Return which units had to stay, and why."""
    reasons: dict[str, dict[str, int]] = {}
    for group in run.plan.groups:
        for reason, count in group.frozen.items():
            reasons.setdefault(reason, {})[group.name] = count
    rows = [
        [reason, str(sum(groups.values())), ", ".join(f"{name} ({count})" for name, count in groups.items())]
        for reason, groups in reasons.items()
    ]
    listed = table(("reason", "units", "groups"), rows, text=(2,)) if rows else element("p", "Nothing.")
    notes = element("ul", (element("li", note) for note in run.report.notes))
    return section("What is frozen, and why", listed, notes)


def verification(run: Run) -> Html:
    """Return the proof that slim and masked compute the same, and the hashes."""
    proof = run.report.verify
    verdict, _, rest = proof.words.partition(":")
    word = element("span", verdict, class_="good" if proof.passed else "bad")
    text = f":{rest}; at most {proof.max_abs_diff:.1e} absolute, tolerance {proof.tolerance:.0e}."
    left = [element("li", f"not compared: {name}") for name in proof.uncompared]
    hashes = [(name, element("code", run.report.hashes[name])) for name in HASHED]
    return section(
        "Verification", element("p", word, text), element("ul", left) if left else None,
        element("h3", "SHA-256 of the files"), definitions(hashes),
    )  # fmt: skip


def parity(run: Run) -> Html | None:
    """Return how exported files agree with the network, where there are any."""
    parts = [
        joined(_exported(title, exported), _replaced(run, exported))
        for exported, title in (
            (run.report.onnx, "ONNX, run by onnxruntime"),
            (run.report.torch_export, "torch.export"),
            (run.report.torchscript, "TorchScript"),
        )
        if exported is not None
    ]
    return section("Exported files", parts) if parts else None


def _replaced(run: Run, exported: Exported) -> Html | None:
    """Say so where the file in the run folder is no longer the one that was compared."""
    path = run.path / Path(exported.file).name
    if not path.is_file() or sha256(path) == exported.sha256:
        return None
    return element("p", f"{path.name} has changed since: export it again.", class_="bad")


def _exported(title: str, exported: Exported) -> Html:
    sizes = ", ".join(f"{axis} {rule}" for axis, rule in exported.sizes.items())
    opset = f", opset {exported.opset}" if exported.opset else ""
    passed = element("span", "agrees" if exported.passed else "DIFFERS", class_="good" if exported.passed else "bad")
    tolerance = exported.tolerance
    rows = []
    for case in exported.parity:
        agreement = "-" if case.agreement is None else f"{case.agreement:.2%}"
        gap, relative = (
            "not finite" if value is None else f"{value:.1e}" for value in (case.max_abs_diff, case.max_rel_diff)
        )
        rows.append([spell_all(case.shapes), gap, relative, agreement])
    return joined(
        element("h3", title),
        element("p", passed, f": {exported.file}, {size(exported.bytes)}{opset}; ", f"free sizes: {sizes or 'none'}."),
        table(("inputs", "difference", "relative", "same class"), rows),
        element(
            "p",
            f"Limits: {tolerance.max_rel_diff:.0e} of the largest output, {tolerance.agreement:.2%} same class.",
            class_="dim",
        ),
        element("p", exported.note, class_="dim") if exported.note else None,
    )


def times(report: Report) -> Html:
    """Return the seconds each step took, and the time of a forward where it was measured."""
    steps = report.seconds
    rows = [Bar(name, value, f"{value:.2f} s") for name, value in steps.items()]
    return section(
        "Measured times",
        _forward(report.latency) if report.latency else None,
        element("h3", f"Steps, together {sum(steps.values()):.1f} s"),
        bars(rows),
    )


def _forward(latency: Latency) -> Html:
    """Return how long a forward takes before and after."""
    full, slim = latency.full, latency.slim
    rows = [
        Bar(name, timing.median_ms, duration(timing.median_ms), name)
        for name, timing in (("full", full), ("slim", slim))
    ]
    words = f"Forward on {full.device}: {full.median_ms / slim.median_ms:.2f} times as fast"
    runs = f"Medians after a warm-up, for the batch above; runs: {full.runs} full, {slim.runs} slim."
    return joined(element("h3", words), bars(rows), element("p", runs, class_="dim"))


def duration(milliseconds: float) -> str:
    """Write a time with three digits.

    >>> duration(0.01234), duration(87.65), duration(2040.0)
    ('0.0123 ms', '87.7 ms', '2.04 s')
    """
    return f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"


def command(config: Mapping[str, Any]) -> Html:
    """Return the command that repeats a run; a line breaks between options only."""
    if not {"model", "run"} & set(config):
        return element("p", "It was saved from Python.")
    return element("pre", element("code", _parts(command_parts(config))))


def _parts(parts: Iterable[str]) -> Html:
    return joined(*([element("span", part), " "] for part in parts))


def reproduce(run: Run) -> Html:
    """Return how to make the run again."""
    trained = run.training.get("command")
    whole = trained is not None and trained.get("model") == run.config.get("model")  # which `ranp train` alone made
    return section(
        "Make it again",
        None if whole else command(run.config),
        None if trained is None else element("pre", element("code", _parts(command_parts(trained, "train")))),
        element("p", f"Every option is in config.yaml, which --config reads. Made by ranp {run.report.ranp}."),
    )


def _goal(made: Choice) -> str:
    if made.limits:
        return ", ".join(f"{name} {amount}" for name, amount in made.limits.items()) + f" by {made.solver}"
    return "largest feasible sparsity" if made.max_sparsity else f"sparsity {made.sparsity:g}"
