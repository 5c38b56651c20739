"""The parts of a page about a training: its curves, what each round left, and samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from ranp.figures import operations, size
from ranp.report._charts import Bar, bars
from ranp.report._curves import Curve, curves
from ranp.report._markup import Html, element
from ranp.report._sections import definitions, section, table
from ranp.report.samples import pictures
from ranp.runs import SAMPLES, Run

_SHOWN = 5  # classes with a curve of their own


def training(run: Run) -> Html | None:
    """Return how the run was trained and how that went; nothing of a run that was not."""
    said = run.training
    if not said.get("done"):
        return None
    rounds = said.get("rounds") or [said]
    charts = [_loss(rounds, said["steps"]), _scores(rounds, said["steps"]), _rates(rounds, said["steps"])]
    return section(
        "Training",
        definitions(_facts(said)),
        element("div", [chart for chart in charts if chart is not None], class_="grid-of"),
        _rounds(said["rounds"]) if said.get("rounds") else None,
    )


def samples(run: Run) -> Html | None:
    """Return what the trained network says of a few validation cases, where the run keeps pictures of them."""
    path = run.path / SAMPLES
    if not path.is_file():
        return None
    words = f"The first of {run.training.get('validated_on')}, by the best weights; of a volume one slice."
    return section("Samples", element("p", words, class_="dim"), pictures(path))


def _facts(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    options, best = said["options"], said["best"]
    steps = f"{said['steps']:,}" + (f" in each of {len(said['rounds'])} rounds" if said.get("rounds") else "")
    entries = [
        ("trained on", said["trained_on"]),
        ("not in these", ", ".join(said.get("unseen", ()))),
        ("validated on", said["validated_on"] or "nothing: the last weights are kept"),
        ("in no case", ", ".join(said.get("never", ()))),
        ("loss", said["loss"]),
        ("teacher", (said.get("teacher") or {}).get("teacher", "")),
        ("optimizer", f"{options['optimizer']}, rate {options['lr']:g}, {options['schedule']}"),
        ("steps", steps),
        ("best", f"{best['score']:.4f} at step {best['step']:,}" if best else ""),
        ("speed", f"{said['seconds_per_step']:.3g} s a step, {said['samples_per_second']:.3g} samples a second"),
        ("peak memory", f"{size(said['peak_memory']['bytes'])} of {said['peak_memory']['of']}"),
    ]
    return [(word, str(meaning)) for word, meaning in entries if meaning]


def _points(rounds: Sequence[Mapping[str, Any]], part: str, name: str, steps: int) -> list[tuple[float, float]]:
    """Return a figure over the steps of all rounds, one after the other."""
    return [
        (number * steps + point["step"], point[name])
        for number, each in enumerate(rounds)
        for point in each[part]
        if name in point
    ]


def _begins(rounds: Sequence[Any], steps: int) -> list[float]:
    return [float(number * steps) for number in range(1, len(rounds))]


def _loss(rounds: Sequence[Mapping[str, Any]], steps: int) -> Html | None:
    return curves("Loss", [Curve("loss", _points(rounds, "curve", "loss", steps))], _begins(rounds, steps))


def _scores(rounds: Sequence[Mapping[str, Any]], steps: int) -> Html | None:
    """Return the score of the validations, and of a few classes each."""
    names = list(dict.fromkeys(name for each in rounds for row in each["validations"] for name in row))
    single = [name for name in names if name.startswith("dice/")]
    shown = ["score", *(single if len(single) <= _SHOWN else [])]
    found = [Curve(name.removeprefix("dice/"), _points(rounds, "validations", name, steps)) for name in shown]
    return curves("Score of the validation", found, _begins(rounds, steps), dots=True)


def _rates(rounds: Sequence[Mapping[str, Any]], steps: int) -> Html | None:
    return curves("Learning rate", [Curve("rate", _points(rounds, "curve", "lr", steps))], _begins(rounds, steps))


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> Html:
    """Return what was left after each round, and how good it was."""
    rows = [
        [str(each["round"]), f"{each['sparsity']:.4f}", f"{each['params']:,}", operations(each["flops"]),
         size(each["memory_bytes"]), f"{each['best']['score']:.4f}" if each["best"] else "-"]
        for each in rounds
    ]  # fmt: skip
    return element(
        "div",
        element("h3", "Rounds of pruning and training"),
        bars([Bar(f"round {each['round']}", each["params"], f"{each['params']:,}") for each in rounds]),
        table(("round", "sparsity", "parameters", "FLOPs", "activations", "best score"), rows),
    )
