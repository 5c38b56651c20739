"""Check a graph by running slim networks built from it, and decide what the run of the full one left open.

Slim networks are built from random plans, on meta tensors, and run under the same rules. The first op that differs is
decided again one stage stricter where it is a view or a cut; any other difference is traced back to the group whose
removal makes it, and that group is frozen. A group that may not shrink to one channel alone keeps two.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ranp.graph._counting import found_by_trial
from ranp.graph._decisions import PARTS, VIEWS, Decisions, Point, fields_of, fixed_size, splits_labels
from ranp.graph._slimrun import Mismatch, check
from ranp.graph.constraints import grow, random_plan
from ranp.graph.graph import Graph, Group, Mask, finalise, staying
from ranp.graph.labels import Ints
from ranp.graph.sizes import Size
from ranp.graph.trace import Record, Trace
from ranp.inputs import Inputs

DRAWS = 24  # plans drawn at most to find telling ones
PLANS = 3  # plans of two or more units a group tried at most
SHARES = (0.5, 0.7, 1.0)  # of each group that plans for groups left whole remove
LOOK_BACK = 8  # ops between a view by hand and what tells that it was misread


@dataclass(frozen=True)
class _Plan:
    """A plan to try: its units, the runs to repeat, and whether shapes alone are compared."""

    kept: Mask
    names: list[str]
    thin: bool


def settle(trace: Trace, model: nn.Module, inputs: Inputs, order: list[str], decisions: Decisions) -> Graph:
    """Finalise a trace and make it stricter until slim networks of random plans run as the full one did.

    Args:
        trace: after the runs of the full network.
        model: the copy those runs used.
        inputs: that they used.
        order: the parameters' names in traversal order.
        decisions: grows with what is decided.
    """
    runs = [name for name in trace.runs if name == "eval" or not _same_ops(trace)]
    while True:
        labels = trace.labels.copy()
        extra = decisions.apply(trace, labels)
        graph = finalise(trace, labels, order, extra)
        for plan in _plans(trace, graph, decisions, runs):
            found = check(graph, model, inputs, plan.kept, plan.names, thin=plan.thin)
            if found is not None:
                _stricter(trace, graph, model, inputs, decisions, plan, found)
                break
        else:
            return graph


def _plans(trace: Trace, graph: Graph, decisions: Decisions, runs: list[str]) -> list[_Plan]:
    """Return plans that upset every open view and cut where constraints let them, first those that keep two of a group.

    Where constraints tie widths, one more keeps few of each group. The next are of least widths. Where units are of
    unequal size, what the first of them removed stays in one more plan, and the rest goes. Groups that lost nothing in
    any of them get plans of their own.

    A plan that happens to keep equally many channels in both halves of a chunk would not tell how the chunk is meant.
    """
    open_points = [Point(each.kind, graph.units_of(each.grid)) for each in decisions.open_points(trace)]
    open_points = [each for each in open_points if not graph.frozen[each.grid[each.grid >= 0]].all()]
    generator = np.random.default_rng(0)

    def wide() -> Mask:
        shares = generator.uniform(0.2, 0.8, size=len(graph.groups))
        return random_plan(graph, shares, generator, least=2)

    masks, left = _telling(open_points, wide, PLANS)
    if graph.balance or decisions.stages:  # random plans may leave all of what must keep equally many
        masks.append(_few(graph, generator))
    plans = [_Plan(kept, runs, False) for kept in masks]
    masks, _ = _telling(left, lambda: random_plan(graph, 1.0, generator), DRAWS)
    if _uneven(graph):
        masks.append(grow(graph, ~masks[0], generator.random(graph.count)))
    plans += [_Plan(kept, runs, True) for kept in masks]
    plans += _covering(graph, plans, generator, runs)
    return [plan for plan in plans if not plan.kept.all()]


def _telling(points: list[Point], drawn: Callable[[], Mask], most: int) -> tuple[list[Mask], list[Point]]:
    """Return the first plan drawn and those that upset further points, and the points no plan upsets."""
    masks: list[Mask] = []
    for _ in range(DRAWS):
        kept = drawn()
        left = [each for each in points if not _upsets(kept, each)]
        if not masks or len(left) < len(points):
            masks.append(kept)
        points = left
        if not points or len(masks) == most:
            break
    return masks, points


def _covering(graph: Graph, plans: list[_Plan], generator: np.random.Generator, runs: list[str]) -> Iterator[_Plan]:
    """Yield plans that remove something of the groups that others leave whole, as constraints may make them."""
    done = ~_losing(graph, graph.frozen)
    done |= np.array([len(g.units) <= least for g, least in zip(graph.groups, graph.least, strict=True)], dtype=bool)
    for plan in plans:
        done |= _losing(graph, plan.kept)
    for draw in range(DRAWS):
        if done.all():
            return
        kept = random_plan(graph, SHARES[draw % len(SHARES)], generator)
        if (_losing(graph, kept) & ~done).any():
            done |= _losing(graph, kept)
            yield _Plan(kept, runs, 1 in graph.widths(kept))


def _losing(graph: Graph, kept: Mask) -> NDArray[np.bool_]:
    """Return which groups a plan removes something of, shape (groups,)."""
    return np.bincount(graph.group_of[~kept], minlength=len(graph.groups)) > 0


def _few(graph: Graph, generator: np.random.Generator) -> Mask:
    """Return a plan that keeps two of each group and of each row that keeps as many as others."""
    kept, priority = random_plan(graph, 1.0, generator, least=2), generator.random(graph.count)
    for row in (row[row >= 0] for rows in graph.balance for row in rows):
        kept[row[np.argsort(-priority[row])][:2]] = True
    return grow(graph, kept, priority)


def _uneven(graph: Graph) -> bool:
    """Whether units hold unequally many channels of a layer, so that it matters which of them go."""
    for layer in graph.layers:
        counts = np.bincount(layer.units[layer.units >= 0])
        if len(set(counts[counts > 0].tolist())) > 1:
            return True
    return False


def _upsets(kept: Mask, point: Point) -> bool:
    """Whether a plan upsets a point; counts must differ by two, because a chunk of an odd width has unequal parts."""
    mask = staying(kept)[point.grid]
    counts = mask.sum(axis=1)
    if point.kind == "all":
        return not mask.all()
    if point.kind == "counts":
        return bool(counts.max() - counts.min() >= min(2, mask.shape[1]))
    some = mask[counts > 0]
    return bool((some != some[:1]).any())


def _same_ops(trace: Trace) -> bool:
    """Whether the run in training mode is the other one but for norms and counters, so that it needs no check."""
    outlines = [[_outline(record) for record in run.records if _has_size(record)] for run in trace.runs.values()]
    return len(outlines) == 2 and outlines[0] == outlines[1]


def _has_size(record: Record) -> bool:
    return any(flow.shape and 0 not in flow.shape for flow in record.outputs)


def _outline(record: Record) -> tuple[object, ...]:
    if "batch_norm" in record.op:
        return "batch_norm", record.outputs[0].shape
    return record.op, record.scalars, [flow.shape for flow in record.outputs]


def _stricter(
    trace: Trace, graph: Graph, model: nn.Module, inputs: Inputs, decisions: Decisions, plan: _Plan, found: Mismatch
) -> None:
    """Decide one more thing, because of a difference found."""
    if _counts(trace, graph, model, inputs, decisions, plan, found):
        return
    record = trace.runs[found.run].records[found.index]
    cut = not plan.thin and record.op in VIEWS | PARTS and _can_lose(graph, record)
    if cut and not decisions.would_freeze(trace, found.run, found.index):
        decisions.escalate(trace, found.run, found.index)
        return
    group = _culprit(graph, model, inputs, plan, found)
    pair = None if plan.thin else _pair(trace, graph, model, inputs, group, found)
    if pair is not None:
        decisions.equal.append(pair)
        return
    if cut:
        decisions.escalate(trace, found.run, found.index)
        return
    view = _split_before(trace, decisions, found) if not plan.thin else None
    if view is not None:
        decisions.escalate(trace, found.run, view)
        return
    labels = np.flatnonzero(np.isin(graph.table[:-1], group.units))
    if plan.thin and int(plan.kept[group.units].sum()) == 1 and len(group.units) > 2:
        decisions.wide.append(labels)
    else:
        decisions.fixed.append((labels, fixed_size(record)))


def _pair(trace: Trace, graph: Graph, model: nn.Module, inputs: Inputs, group: Group, found: Mismatch) -> Ints | None:
    """Return labels (2, n) of a group and of one near the op that must be as wide for the run to go on, if any.

    `torch.zeros_like(x)` as the first state of a recurrent cell, or `y.view(x.shape)`, ask for another's width.
    """
    count = max(len(group.units) // 2, 1)
    for other in _near(trace, graph, found):
        if other.name == group.name or len(other.units) != len(group.units) or graph.frozen[other.units].all():
            continue
        kept = np.ones(graph.count, dtype=bool)
        kept[group.units[:count]] = kept[other.units[-count:]] = False
        kept = grow(graph, kept, np.zeros(graph.count))
        if kept.all() or kept[group.units].sum() != kept[other.units].sum():
            continue
        later = check(graph, model, inputs, kept, [found.run], thin=False)
        if later is None or later.index > found.index:
            _, first = np.unique(graph.table[:-1], return_index=True)
            label = dict(zip(graph.table[first].tolist(), first.tolist(), strict=True))
            return np.array([[label[unit] for unit in each.units.tolist()] for each in (group, other)])
    return None


def _near(trace: Trace, graph: Graph, found: Mismatch) -> list[Group]:
    """Return the groups whose channels the ops before a difference carry."""
    records = trace.runs[found.run].records[max(found.index - LOOK_BACK, 0) : found.index + 1]
    fields = [labels for record in reversed(records) for labels in fields_of(record)]
    for record in records:
        for name in record.weights:
            fields += trace.born.get(name, {}).values()
    units = [graph.units_of(labels).ravel() for labels in fields]
    seen = dict.fromkeys(group for each in units for group in graph.group_of[each[each >= 0]].tolist())
    return [graph.groups[each] for each in seen]


def _counts(
    trace: Trace, graph: Graph, model: nn.Module, inputs: Inputs, decisions: Decisions, plan: _Plan, found: Mismatch
) -> bool:
    """Whether a number of a module counts the channels where a plan differs: setting it lets the run go on."""

    def lets_go_on(sizes: list[Size]) -> bool:
        tried = replace(graph, sizes=tuple(sizes))
        later = check(tried, model, inputs, plan.kept, [found.run], thin=plan.thin)
        return later is None or later.index > found.index

    sizes = found_by_trial(trace, graph, model, plan.kept, found, lets_go_on)
    decisions.sizes = decisions.sizes if sizes is None else sizes
    return sizes is not None


def _split_before(trace: Trace, decisions: Decisions, found: Mismatch) -> int | None:
    """Return the last view shortly before an op that splits channels the op carries and is still at its loosest."""
    records = trace.runs[found.run].records
    labels = np.concatenate([np.zeros(0, np.int64), *(each.ravel() for each in fields_of(records[found.index]))])
    for index in range(found.index - 1, max(found.index - LOOK_BACK, 0) - 1, -1):
        if (found.run, index) not in decisions.stages and splits_labels(trace, found.run, index, labels[labels >= 0]):
            return index
    return None


def _can_lose(graph: Graph, record: Record) -> bool:
    for labels in fields_of(record):
        units = graph.units_of(labels)
        if not graph.frozen[units[units >= 0]].all():
            return True
    return False


def _culprit(graph: Graph, model: nn.Module, inputs: Inputs, plan: _Plan, found: Mismatch) -> Group:
    """Return a group whose removed units make the difference, by halving the set of groups that lose any."""
    groups = [group for group in graph.groups if not plan.kept[group.units].all()]
    low, high = 0, len(groups)
    while high - low > 1:
        middle = (low + high) // 2
        kept = _prefix(graph, plan.kept, groups[:middle])
        if check(graph, model, inputs, kept, [found.run], thin=plan.thin) is None:
            low = middle
        else:
            high = middle
    return groups[high - 1]


def _prefix(graph: Graph, kept: Mask, groups: list[Group]) -> Mask:
    """Return a plan that removes what another one does, in some groups alone."""
    partial = np.ones_like(kept)
    for group in groups:
        partial[group.units] = kept[group.units]
    return grow(graph, partial, np.zeros(graph.count))
