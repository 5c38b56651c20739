"""A plan: which units stay and how they were chosen, as a portable, readable file.

The file holds names, widths and indices, never code. It is applied by tracing a model again and matching its groups by
name and width, so that it fits the same architecture anywhere and says which group differs where it doesn't.
"""

import json
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from torch import nn

from ranp.errors import UsageError, listed
from ranp.graph.build import trace
from ranp.graph.graph import Graph, Mask
from ranp.inputs import Description, InputSpec, refill
from ranp.modules import all_names, tensors_of
from ranp.options import Method, Reduce, Rule, Selection
from ranp.reports import Units

SCHEMA_VERSION = 1
LIMIT = 64 * 2**20  # bytes of a plan file; the plan of a network of a million units has some 10 MiB

Index = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Choice(Selection):
    """How the kept units were chosen: the options of `select`, what the scores are, and what came of them.

    Under limits `bounds` and `costs` say what each lets the network cost and what it does, `importance` which share of
    all scores stays, and `gap` how much more of them the best on the exact solver's grid of widths may keep.
    """

    rule: Rule = "global"
    sparsity: float = 0.0
    method: Method | None = None
    reduce: Reduce | None = None
    batches: int = 0
    seed: int = 0
    achieved: float = 0.0
    maximum: float = 0.0
    bounds: dict[str, int] = Field(default_factory=dict)
    costs: dict[str, int] = Field(default_factory=dict)
    importance: float | None = None
    gap: float | None = None


class PlanGroup(_Strict):
    """One group: its width in the full network and the places of its kept units, ascending.

    `frozen` counts the units that must stay, by reason.
    """

    name: str
    layers: tuple[str, ...]
    width: int = Field(gt=0)
    kept: tuple[Index, ...]
    frozen: dict[str, int] = Field(default_factory=dict)


class Plan(_Strict):
    """Which units stay.

    Args:
        schema_version: of this file.
        model: class of the network it was made for, for a reader.
        inputs: what the network was traced with: a list of positional inputs or a mapping of keyword ones. Tensors are
            shapes and dtypes; None, numbers and words stand for themselves.
        freeze: globs of what the user fixed.
        outputs: places of the outputs that keep their shape; none named means all.
        groups: in the order of the graph.
        shapes: what it makes of each parameter, and of each buffer that it cuts; none in plans of former versions.
        choice: how they were chosen.
        scores: per layer the least, mean and largest score.
        stages: the same after weighting ("weighted", Eq. 5.9) and after reweighting ("reweighted", Eq. 5.10), where
            the rule did so.
    """

    schema_version: int = SCHEMA_VERSION
    model: str = ""
    inputs: Description
    freeze: tuple[str, ...] = ()
    outputs: tuple[int, ...] = ()
    groups: tuple[PlanGroup, ...]
    shapes: dict[str, tuple[Index, ...]] = Field(default_factory=dict)
    choice: Choice
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    stages: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)

    _graph: Graph | None = PrivateAttr(default=None)

    def __repr__(self) -> str:
        units, choice = self.units(), self.choice
        ways = f"rule {choice.rule}" + (f", method {choice.method}" if choice.method else "")
        kept = f"{units.kept} of {units.total} units kept in {len(self.groups)} groups"
        return (
            f"Plan for {self.model}: {kept}\n  sparsity {choice.achieved:.4f} of at most {choice.maximum:.4f}; {ways}"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return a table of the groups for a notebook."""
        rows = "".join(
            f"<tr><td>{escape(group.name)}</td><td>{group.width}</td><td>{len(group.kept)}</td></tr>"
            for group in self.groups
        )
        return f"<table><tr><th>group</th><th>width</th><th>kept</th></tr>{rows}</table>"

    @classmethod
    def of(
        cls,
        graph: Graph,
        kept: Mask,
        choice: Choice,
        scores: dict[str, dict[str, float]],
        stages: Mapping[str, dict[str, dict[str, float]]] = MappingProxyType({}),
    ) -> "Plan":
        """Return the plan that keeps some units of a graph."""
        groups = tuple(
            PlanGroup(
                name=group.name,
                layers=group.layers,
                width=len(group.units),
                kept=tuple(np.flatnonzero(kept[group.units]).tolist()),
                frozen=dict(Counter(reason for unit in group.units if (reason := graph.reasons[unit]))),
            )
            for group in graph.groups
        )
        plan = cls.model_validate(
            {
                "model": graph.model,
                "inputs": graph.inputs,
                "freeze": graph.freeze,
                "outputs": graph.outputs,
                "groups": groups,
                "shapes": {
                    name: shape
                    for name in dict.fromkeys([*graph.shapes, *graph.parameters])
                    if (shape := graph.kept_shape(name, kept)) is not None
                },
                "choice": choice,
                "scores": scores,
                "stages": dict(stages),
            }
        )
        plan._graph = graph
        return plan

    def example_inputs(self) -> tuple[Any, ...] | dict[str, Any]:
        """Return tensors without data of the shapes and dtypes it was made with, and what was given beside them.

        Raises:
            UsageError: the file names no dtype, or a shape that no tensor has.
        """
        return refill(self.inputs, InputSpec.empty)

    def graph_of(self, model: nn.Module) -> Graph:
        """Return the graph this plan was made for, or trace a model of the same architecture.

        Raises:
            UsageError: the plan does not fit the model.
        """
        if self._graph is not None and _same_shapes(self._graph, model):
            return self._graph
        graph = trace(model, self.example_inputs(), freeze=self.freeze, outputs=self.outputs)
        self.mask(graph)
        return graph

    def mask(self, graph: Graph) -> Mask:
        """Return the kept units of a graph, shape (count,).

        Raises:
            UsageError: a group is missing or has another width; the first that differs is named.
        """
        planned = {_key(group.name, group.width, group.layers): group for group in self.groups}
        own = {_key(group.name, len(group.units), group.layers): group for group in graph.groups}
        if graph is self._graph:
            pairs = list(zip(graph.groups, self.groups, strict=True))
        elif planned.keys() == own.keys() and len(planned) == len(self.groups) and len(own) == len(graph.groups):
            pairs = [(own[key], group) for key, group in planned.items()]  # their order is that of the run
        else:
            raise UsageError(f"the plan does not fit the model: {_difference(graph, self)}")
        kept = np.zeros(graph.count, dtype=bool)
        for group, chosen in pairs:
            kept[group.units[list(chosen.kept)]] = True
            for unit in group.units[~kept[group.units]].tolist() if graph is not self._graph else ():
                if graph.reasons[unit] not in (
                    None,
                    "network output",
                ):  # a network that puts out features runs slim too
                    raise UsageError(
                        f"the plan does not fit the model: it removes channels of group {group.name!r} that must stay "
                        f"here ({graph.reasons[unit]}){_OTHERWISE}"
                    )
        return kept

    def check_made(self, slim: nn.Module) -> None:
        """Refuse a module that this plan does not make.

        A plan of a former version knows the layers' names alone.

        Raises:
            UsageError: a parameter or buffer is missing, is of another shape, or has no counterpart.
        """
        held = [*all_names(slim), *slim.named_parameters(), *slim.named_buffers()]  # a scripted part's too
        made = {name: tuple(tensor.shape) for name, tensor in held}
        names = (name for group in self.groups for name in group.layers)
        expected: Mapping[str, tuple[int, ...] | None] = self.shapes or dict.fromkeys(names)
        extra = next((name for name, _ in slim.named_parameters() if self.shapes and name not in expected), None)
        if extra is not None:
            raise UsageError(f"slim: it has {extra}, which the plan does not make: give the network `slim` returned")
        for name, shape in expected.items():
            if name not in made:
                raise UsageError(f"slim: it has no {name}, which the plan makes: give the network `slim` returned")
            if shape is not None and made[name] != shape:
                raise UsageError(f"slim: {name} is {made[name]}; the plan makes it {shape}")

    def units(self) -> Units:
        """Return how many units there are, how many stay, and how many are frozen for each reason."""
        frozen: Counter[str] = Counter()
        for group in self.groups:
            frozen.update(group.frozen)
        return Units(
            total=sum(group.width for group in self.groups),
            kept=sum(len(group.kept) for group in self.groups),
            frozen=dict(sorted(frozen.items())),
        )

    def to_json(self) -> str:
        """Return the file's text; equal plans give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "plan.json") -> "Plan":
        """Read a plan; nothing in it is executed.

        Raises:
            UsageError: it is no plan, or of another schema version.
        """
        if len(text) > LIMIT:
            raise UsageError(f"{name}: {len(text)} characters; a plan has at most {LIMIT}")
        try:
            data = json.loads(text)
            version = data.get("schema_version") if isinstance(data, dict) else None
            if version != SCHEMA_VERSION:
                raise UsageError(f"{name}: schema version {version}; this ranp reads version {SCHEMA_VERSION}")
            plan = cls.model_validate(data)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UsageError(f"{name}: not JSON ({str(error).splitlines()[0]})") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(each) for each in first["loc"])
            raise UsageError(f"{name}: not a plan: {where}: {first['msg']}") from None
        _check_indices(plan, name)
        return plan

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read a plan from a file.

        Raises:
            UsageError: it can't be read, or holds no plan.
        """
        try:
            return cls.from_json(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None


def _check_indices(plan: Plan, name: str) -> None:
    for group in plan.groups:
        if list(group.kept) != sorted(set(group.kept)) or (group.kept and group.kept[-1] >= group.width):
            raise UsageError(f"{name}: group {group.name!r}: kept indices must ascend within its width {group.width}")
        if not group.kept:
            raise UsageError(f"{name}: group {group.name!r} keeps nothing")


def _same_shapes(graph: Graph, model: nn.Module) -> bool:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(model).items()}
    return all(shapes.get(name) == members.shape for name, members in graph.parameters.items())


def _key(name: str, width: int, layers: tuple[str, ...]) -> tuple[str, int, tuple[str, ...]]:
    """Return what a group is known by; which flags are on decides in which order the groups come."""
    return name, width, tuple(sorted(layers))


_OTHERWISE = (
    "; with other settings or flags its layers hang together otherwise: give those of the run, or prune it as it is"
)


def _difference(graph: Graph, plan: Plan) -> str:
    """Name the first group that is not the same in a plan and a model, and what to do about it."""
    planned = {_key(group.name, group.width, group.layers): group for group in plan.groups}
    own = {_key(group.name, len(group.units), group.layers): group for group in graph.groups}
    gone = {key: group for key, group in planned.items() if key not in own}
    new = {key: group for key, group in own.items() if key not in planned}
    stays = all(sum(group.frozen.values()) == group.width for group in gone.values())
    stays = stays and all(graph.reason_of(group) for group in new.values())
    layers = [{name for group in groups for name in group.layers} for groups in (plan.groups, graph.groups)]
    way = "; `ranp transfer RUN --keep-weights --out NEW`, with its settings, makes a run that fits"
    way = way if stays else _OTHERWISE if layers[0] == layers[1] else ""
    before, after = ({name: (width, makers) for name, width, makers in groups} for groups in (gone, new))
    for name, (width, makers) in before.items():
        if name not in after:
            continue
        if width != after[name][0]:
            return f"group {name!r} of width {width} in the plan is {name!r} of width {after[name][0]} in the model"
        by, now = (listed(each, "and") for each in (makers, after[name][1]))
        return f"group {name!r} is made by {by} in the plan, by {now} in the model{way}"
    for name in before:
        return f"group {name!r} is only in the plan{way}"
    for name in after:
        return f"group {name!r} is only in the model{way}"
    return f"{len(plan.groups)} groups in the plan, {len(graph.groups)} in the model"
