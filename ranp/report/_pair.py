"""The page of two runs beside each other."""

from collections.abc import Callable, Mapping
from typing import Any

from ranp.figures import saved
from ranp.files import yaml_line
from ranp.report import _sections as sections
from ranp.report._charts import Bar, bars, nested
from ranp.report._markup import Html, element, joined
from ranp.report._page import document
from ranp.reports import Figures
from ranp.runs import Run

KINDS = ("whole-a", "whole-b")


def page(first: Run, second: Run) -> str:
    """Return the page of two runs, read from their folders; a run is called A or B throughout."""
    title = f"{first.path.name} and {second.path.name}: two runs of ranp"
    both = (first, second)
    return document(
        title,
        element("h1", title),
        element("p", (_named(letter, run) for letter, run in zip("AB", both, strict=True)), class_="dim legend"),
        _savings(both),
        _options(both),
        _widths(both),
        _verifications(both),
        _commands(both),
    )


def _named(letter: str, run: Run) -> Html:
    words = f"{letter}: {run.path.name}, {sections.network(run)}, {sections.inputs(run)}"
    return element("div", element("i", class_=f"key {letter.lower()}"), words)


def _savings(both: tuple[Run, Run]) -> Html:
    fulls = [run.report.full for run in both]
    cards = []
    for key, name, write in sections.COSTS:
        rows, less = _full_bars(fulls, key, write), []
        for letter, kind, run in zip("AB", KINDS, both, strict=True):
            slim, full = run.report.slim[key], run.report.full[key]
            rows.append(Bar(f"slim {letter}", slim, write(slim), kind))
            less.append(f"{letter} saves {saved(full, slim)}")
        cards.append(element("div", element("h3", name), bars(rows), element("p", ", ".join(less), class_="unit")))
    sparsity = [
        [
            f"{letter}",
            *(
                f"{value:.4f}"
                for value in (run.report.sparsity.asked, run.report.sparsity.achieved, run.report.sparsity.maximum)
            ),
        ]
        for letter, run in zip("AB", both, strict=True)
    ]
    return sections.section(
        "What was saved",
        element("div", cards, class_="grid-of"),
        element("h3", "Sparsity"),
        sections.table(("run", "asked", "achieved", "largest feasible"), sparsity),
    )


def _full_bars(fulls: list[Figures], key: str, write: Callable[[float], str]) -> list[Bar]:
    """Return one bar where the full networks cost the same, else one of each."""
    if fulls[0][key] == fulls[1][key]:
        return [Bar("full", fulls[0][key], write(fulls[0][key]), "full")]
    return [
        Bar(f"full {letter}", full[key], write(full[key]), "full") for letter, full in zip("AB", fulls, strict=True)
    ]


def _options(both: tuple[Run, Run]) -> Html:
    first, second = (run.config for run in both)
    names = [name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name)]
    rows = [[name, _word(first, name), _word(second, name)] for name in names]
    listed = sections.table(("option", "A", "B"), rows, text=(1, 2)) if rows else element("p", "No option.")
    return sections.section("Options that differ", listed)


def _word(config: Mapping[str, Any], name: str) -> str:
    return yaml_line(config[name]) if name in config else "-"


def _widths(both: tuple[Run, Run]) -> Html:
    first, second = ({group.name: group for group in run.plan.groups} for run in both)
    rows, largest = [], 1
    for name in dict.fromkeys([*first, *second]):
        kept = [len(groups[name].kept) if name in groups else None for groups in (first, second)]
        width = max(groups[name].width for groups in (first, second) if name in groups)
        largest = max(largest, width)
        fills = [("full", width), *((kind, count) for kind, count in zip("ab", kept, strict=True) if count)]
        text = f"{width} → {' | '.join('-' if count is None else str(count) for count in kept)}"
        rows.append((name, fills, text))
    return sections.section(
        "Widths before and after",
        sections.legend(("full", "channels before"), ("a", "A"), ("b", "B")),
        nested(rows, largest),
    )


def _verifications(both: tuple[Run, Run]) -> Html:
    rows = []
    for letter, run in zip("AB", both, strict=True):
        proof = run.report.verify
        status = element("span", proof.words.partition(":")[0], class_="good" if proof.passed else "bad")
        rows.append([letter, status, f"{proof.max_rel_diff:.1e}", f"{proof.tolerance:.0e}"])
    return sections.section(
        "Verification",
        sections.table(("run", "slim equals masked", "largest relative difference", "tolerance"), rows),
    )


def _commands(both: tuple[Run, Run]) -> Html:
    return sections.section(
        "Make them again",
        (joined(element("h3", letter), sections.command(run.config)) for letter, run in zip("AB", both, strict=True)),
    )
