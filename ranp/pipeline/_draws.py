"""Scores over several initialisations: their mean, and how far the widths of each by itself spread."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ranp.errors import InfeasibleError
from ranp.graph.graph import Graph
from ranp.scores import Scores
from ranp.selection import select

SHOWN = 3


def mean_of(draws: Sequence[Scores]) -> Scores:
    """Return the mean of the scores of several draws, each divided by its own mean over all neurons.

    A draw with larger gradients would decide alone otherwise; one draw stays as it is.
    """
    first = draws[0]
    if len(draws) == 1:
        return first
    scales = [float(np.mean(np.concatenate(list(each.neurons.values())))) or 1.0 for each in draws]
    neurons = {
        name: np.mean([each.neurons[name] / scale for each, scale in zip(draws, scales, strict=True)], axis=0)
        for name in first.neurons
    }
    elements = {
        name: np.mean([each.elements[name] / np.float32(s) for each, s in zip(draws, scales, strict=True)], axis=0)
        for name in first.elements
    }
    notes = tuple(dict.fromkeys(note for each in draws for note in each.notes))
    return replace(first, neurons=neurons, elements=elements, notes=notes)


def spread_of(graph: Graph, draws: Sequence[Scores], seed: int, options: Mapping[str, Any]) -> list[str]:
    """Return a note of the groups whose widths differ most between draws, chosen by the same options; of one, nothing.

    The spread is the standard deviation over the draws by the mean width.
    """
    if len(draws) < 2:
        return []
    try:
        widths = np.array(
            [[len(group.kept) for group in select(graph, each, seed=seed, **options).groups] for each in draws]
        )
    except InfeasibleError as error:
        return [f"{len(draws)} draws: one of them alone can't be cut so far: {error}"]
    spread = widths.std(axis=0) / widths.mean(axis=0)
    order = np.argsort(-spread, kind="stable")[:SHOWN]
    worst = [f"{graph.groups[at].name} {'/'.join(map(str, widths[:, at].tolist()))}" for at in order.tolist()]
    mean = 100 * float(spread.mean())
    return [f"{len(draws)} draws: widths spread by {mean:.1f} % in the mean, most: {', '.join(worst)}"]
