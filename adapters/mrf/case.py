"""One case of `ranp refine`: the files that go in, the files and figures that come out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ranp.adapters.jobs.options import Refining
from ranp.adapters.mrf._files import (
    NIFTI,
    OUTPUTS,
    Scores,
    check_output,
    read_image,
    read_labels,
    read_scores,
    write_labels,
)
from ranp.adapters.mrf.refinement import Refined, default_directions, measures
from ranp.errors import need
from ranp.files import whole_file
from ranp.inputs import check_device

DRAWINGS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Case:
    """What was read, and where the results go."""

    scores: Scores
    image: Tensor | None  # (C, *spatial)
    truth: Tensor | None  # (*spatial) int64
    out: Path
    picture: Path | None

    @property
    def classes(self) -> int:
        """Return L."""
        return self.scores.values.shape[0]


def load(
    logits: Path,
    out: Path,
    *,
    image: Path | None = None,
    labels: Path | None = None,
    picture: Path | None = None,
    force: bool = False,
) -> Case:
    """Check where the results go and read the inputs.

    Raises:
        UsageError: a file that can't be read or does not fit the logits, an output that exists or can't be written.
        MissingExtra: a file format or the picture needs a package that is not installed.
    """
    check_output(out, "out", OUTPUTS, force)
    if picture is not None:
        check_output(picture, "picture", DRAWINGS, force)
        need("matplotlib.figure", "plots")
    if out.name.lower().endswith(NIFTI):
        need("nibabel", "medical")
    scores = read_scores(logits)
    spatial = tuple(scores.values.shape[1:])
    return Case(
        scores,
        None if image is None else read_image(image, spatial, scores.affine),
        None if labels is None else read_labels(labels, spatial, scores.values.shape[0]),
        out,
        picture,
    )


def on_device(case: Case, name: str) -> tuple[Tensor, Tensor | None]:
    """Return the scores and the image on a device.

    Raises:
        UsageError: no such device here.
    """
    device = check_device(name)
    return case.scores.values.to(device), None if case.image is None else case.image.to(device)


def summary(case: Case, how: Refining) -> dict[str, Any]:
    """Return what will be done: the settings, the sizes and the outputs."""
    spatial = list(case.scores.values.shape[1:])
    directions = default_directions(how, len(spatial))
    return how.model_dump() | {
        "edges": how.edges if case.image is not None else "none",
        "directions": directions,
        "labels": case.classes,
        "shape": spatial,
        "out": str(case.out),
        "picture": None if case.picture is None else str(case.picture),
    }


def report(case: Case, refined: Refined) -> dict[str, Any]:
    """Return what came out: energies, changed pixels, and metrics where the true labels are known."""
    before, *after = refined.energies
    found: dict[str, Any] = {
        "energy": {"before": before, "after": after[-1], "per_iteration": after},
        "changed": refined.changed,
        "pixels": refined.after.numel(),
    }
    if case.truth is not None:
        both = {"before": refined.before, "after": refined.after}
        found["metrics"] = {when: measures(labels, case.truth, case.classes) for when, labels in both.items()}
    return found


def save(case: Case, refined: Refined) -> None:
    """Write the labels and, where asked for, the picture."""
    write_labels(case.out, refined.after.numpy(), case.scores.affine)
    if case.picture is not None:
        _draw(case.picture, refined, case.image, case.classes)


def _draw(path: Path, refined: Refined, image: Tensor | None, classes: int) -> None:
    """Draw the slice where most labels changed: the image, the labels before, after, and where they differ."""
    figures = need("matplotlib.figure", "plots")
    cut = _busiest_slice(refined.before != refined.after)
    panels = [("before", refined.before[cut]), ("after", refined.after[cut])]
    panels.append(("changed", (refined.before != refined.after)[cut]))
    if image is not None:
        panels.insert(0, ("image", image.float().mean(0)[cut]))
    figure = figures.Figure(figsize=(4 * len(panels), 4), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        labelled = title in ("before", "after")
        limits = {"vmin": 0, "vmax": max(classes - 1, 1), "cmap": "viridis"} if labelled else {"cmap": "gray"}
        axes.imshow(np.asarray(values), interpolation="nearest", **limits)
        axes.set_title(title)
        axes.set_axis_off()
    with whole_file(path) as place:
        figure.savefig(place, format=path.suffix.lower().removeprefix("."))


def _busiest_slice(changed: Tensor) -> tuple[Any, ...]:
    """Return the index of a volume's slice, along its first axis, with the most changes; an image is its own slice."""
    if changed.ndim == 2:
        return (...,)
    return (int(changed.flatten(1).sum(1).argmax()), ...)
