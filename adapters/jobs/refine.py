"""What `ranp refine` asks for: the files that go in, how labels are refined, the files and figures that come out."""

from collections.abc import Callable, Iterable
from typing import Any

from ranp.adapters.jobs.options import Refine, Refining
from ranp.adapters.mrf.case import load, on_device, report, save, summary
from ranp.adapters.mrf.refinement import pairwise_of, refine

Track = Callable[[Iterable[int]], Iterable[int]]


def run(options: Refine, track: Track = iter) -> dict[str, Any]:
    """Refine the labels of a network's logits and write them.

    Args:
        options: of the command.
        track: wraps the loop over iterations, to show progress.

    Returns:
        What was done and what came out, in plain values.

    Raises:
        UsageError: a file that can't be read or does not fit, an option out of its range, an output that exists.
        MissingExtra: a file format or the picture needs a package that is not installed.
    """
    how = Refining(**options.only(Refining))
    pairwise_of(how)  # a scale it can't have is said before anything is read
    case = load(
        options.logits, options.out, image=options.image, labels=options.labels, picture=options.picture,
        force=options.force,
    )  # fmt: skip
    scores, guide = on_device(case, options.device)
    found = summary(case, how)
    if not options.dry_run:
        refined = refine(scores, how, guide, probabilities=options.probabilities, track=track)
        save(case, refined)
        found |= report(case, refined)
    return found
