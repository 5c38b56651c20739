"""What `ranp evaluate` asks for: a network, the cases it is measured on, and what is written of them."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ranp.data.sources import Drawing, FromFiles
from ranp.errors import UsageError, listed, named, need
from ranp.files import check_file_place, write_text
from ranp.jobs._judging import as_learned, as_trained, learned_by, run_of, subject_of
from ranp.jobs._source import folded, opened
from ranp.jobs._task import as_planned, as_the_data
from ranp.jobs.options import Evaluate
from ranp.models.outputs import output_shape
from ranp.report.contact import FORMATS, Tile, compared, write_sheet
from ranp.training import Evaluation, Scores, Windows, measured

Track = Callable[[Iterable[Any]], Iterable[Any]]


def evaluate(options: Evaluate, track: Track = iter) -> tuple[Scores, dict[str, Any]]:
    """Measure a network, and write what was asked for.

    Args:
        options: of the command.
        track: wraps the iteration over cases.

    Returns:
        What was measured, and the same in plain values with `model`, `weights` and what was written.

    Raises:
        UsageError: a mistake in the options, cases that can't be read, or a network that does not fit them.
        MissingExtra: a reader, or what draws the sheet, is not installed.
    """
    _check_places(options)
    run = run_of(options.model)
    trusted = bool(options.data or options.images or run is None)
    options = as_trained(options, run)
    if not trusted and run is not None:
        known = {**run.config, **dict(run.training.get("data") or {})}
        options = options.model_copy(update={"data": known.get("data")})
    source = opened(options, trusted=trusted)
    learned_from = dict(run.training.get("data") or {}) if run is not None else {}
    if isinstance(source, FromFiles) and learned_from.get("fold") and options.data == learned_from.get("data"):
        source = folded(source, learned_from["fold"])  # the cases that the training held out
    if run is None:
        options = as_the_data(options, source)
        if isinstance(source, FromFiles):
            source.dataset = as_planned(source.dataset, options)
    subject = subject_of(options, run, options.seed)
    if isinstance(source, FromFiles):
        channels = output_shape(subject.network, subject.inputs, subject.outputs)[:1]
        source.dataset = as_learned(source.dataset, learned_by(run, options, *channels or (0,)))
    how = Drawing(options.batches, options.samples, options.seed, maxdisp=subject.maxdisp)
    windows = Windows(options.overlap, options.samples, options.mirror)
    asked = Evaluation(
        subject.network, source, subject.inputs, how, options.split, subject.outputs, windows, options.device
    )
    scores = measured(asked, tolerance=options.tolerance, track=track)
    if options.split is not None and source.task is None:
        note = f"{named('split', options.split)}: {source.word} has no splits; all was measured"
        scores = replace(scores, notes=(*scores.notes, note))
    if options.csv is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(scores.rows())
        write_text(options.csv, text.getvalue())
    if options.sheet is not None:
        names = ("background", *scores.classes[1:]) if scores.first else scores.classes  # which is not coloured
        write_sheet(options.sheet, _pictures(asked, scores, names), names)
    written = {name: str(path) for name in ("csv", "sheet") if (path := getattr(options, name)) is not None}
    return scores, {"model": options.model, "weights": subject.weights, **scores.to_dict(), **written}


def _check_places(options: Evaluate) -> None:
    if options.csv is not None:
        check_file_place(options.csv, force=options.force, option="csv")
    if options.sheet is not None:
        if options.sheet.suffix.lower() not in FORMATS:
            raise UsageError(f"{named('sheet', options.sheet)}: expected a picture: {listed(FORMATS)}")
        check_file_place(options.sheet, force=options.force, option="sheet")
        need("matplotlib.figure", "plots")


def _pictures(asked: Evaluation, scores: Scores, names: Sequence[str]) -> list[Tile]:
    """Return the best, the median and the worst case, each with its prediction; the network runs on them again."""
    ranked = scores.ranked()
    if not ranked or scores.task == "regression":
        what = "values are no labels" if ranked else "no case has a class but the background"
        raise UsageError(f"{named('sheet')}: nothing to draw: {what}")
    places = dict.fromkeys([ranked[0], ranked[len(ranked) // 2], ranked[-1]])
    words = _words(len(places))
    drawn: dict[int, list[Tile]] = {}
    for (task, judged), place in zip(asked.judged(sorted(places)), sorted(places), strict=True):
        truth, inputs = judged.truth, judged.inputs
        if truth.back is not None:
            inputs = tuple(truth.back(part) for part in inputs)
        word = words[list(places).index(place)]
        name = f"{word}, {scores.cases[place].value:.3f}: {judged.name}"
        drawn[place] = compared(name, inputs, truth.target, judged.prediction, task, names, truth.axes)
    return [tile for place in places for tile in drawn[place]]


def _words(count: int) -> Sequence[str]:
    return {1: ("only",), 2: ("best", "worst")}.get(count, ("best", "median", "worst"))
