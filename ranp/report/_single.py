"""The page of one run."""

from ranp.report import _sections as sections
from ranp.report._markup import element
from ranp.report._page import document
from ranp.report._training import samples, training
from ranp.reports import Comparison
from ranp.runs import Run


def page(run: Run, comparison: Comparison | None = None) -> str:
    """Return the page of a run.

    Args:
        run: read from its folder.
        comparison: what `ranp compare` wrote, or None.
    """
    report = run.report
    title = f"{sections.network(run)}: slim by ranp"
    return document(
        title,
        element("h1", title),
        element("p", f"Run {run.path.name}, {sections.inputs(run)}.", class_="dim"),
        sections.savings(run),
        None if comparison is None else sections.comparison(comparison),
        sections.search(run),
        training(run),
        samples(run),
        sections.widths(run.plan),
        sections.scores(run.plan),
        sections.choice(run),
        sections.frozen(run),
        sections.verification(run),
        sections.parity(run),
        sections.times(report),
        sections.reproduce(run),
    )
