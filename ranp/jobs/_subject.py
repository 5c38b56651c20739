"""What MODEL names where a network is only looked at: one to be built, or the slim network of a run folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ranp import runs
from ranp.errors import UsageError, named
from ranp.inputs import Shape, draw, flatten, generator_of, reshaped
from ranp.models.folders import PRUNED, kind_of
from ranp.models.input_words import read_words
from ranp.models.request import read_request, read_size
from ranp.models.weights import load_weights_
from ranp.models.words import recipe_of
from ranp.options import Options

Inputs = tuple[Tensor, ...] | dict[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A network to be looked at and inputs of it.

    Args:
        name: the MODEL it was asked for by.
        preset: of a built-in, or None.
        network: built, with initial weights or those of a run.
        inputs: standard normal, with the batch in front.
        weights: where they come from, in words; "" for initial ones.
    """

    name: str
    preset: str | None
    network: nn.Module
    inputs: Inputs
    weights: str = ""

    @property
    def shapes(self) -> list[list[int]]:
        """Shapes of the inputs without the batch."""
        return [list(tensor.shape[1:]) for tensor in flatten(self.inputs)]

    @property
    def batch(self) -> int:
        """Samples in a batch."""
        return int(flatten(self.inputs)[0].shape[0])


def read_subject(
    network: Mapping[str, Any],
    *,
    full: str | None = None,
    size: Sequence[str] = (),
    batch: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
) -> Subject:
    """Build what MODEL names: a network by `read_request`, or the slim network of a run folder.

    Args:
        network: the options of `ranp.jobs.options.Network`, by name; of a run, but MODEL those of its full network.
        full: the full network's MODEL, for a run whose files may not build it.
        size: --input.
        batch: --batch; by default the preset's, the run's, or 1.
        seed: of initial weights and inputs.
        weights: a checkpoint of the network, of a run of its slim one.

    Raises:
        UsageError: as `read_request`, or a run folder that is damaged.
    """
    words = dict(network)
    model = words.pop("model")
    if names_run(model):
        whole = read_request(full, **words, trusted=True).network(seed) if full else None
        if whole is None and any(words.values()):
            only = f"give them with {named('full', flag='--model')} only"
            raise UsageError(f"{named('MODEL', model)}: a run knows its own settings; {only}")
        run = runs.read(model)
        slim, loaded = run.slim_with(weights, whole)
        plain, spelled = read_words(size)
        if spelled:
            raise UsageError(f"{named('input', size[0])}: {model} is a run and knows its inputs; expected a size")
        return Subject(model, None, slim, _inputs_of(run.plan.example_inputs(), plain, batch, seed), loaded)
    refuse_full(full, model)
    request = read_request(model, size=size, batch=batch, **words, trusted=True)
    built, recipe = request.network(seed), recipe_of(model)
    weights = weights or (recipe.weights if recipe else None)
    loaded = "" if weights is None else load_weights_(built, weights)
    return Subject(model, request.preset, built, request.fitted(built).inputs(seed), loaded)


def names_run(model: str) -> bool:
    """Whether MODEL is taken for a run: a folder that is one, or of no other kind, which reading it then says."""
    return kind_of(model) is PRUNED or (Path(model).is_dir() and kind_of(model) is None)


def refuse_full(full: str | None, model: str) -> None:
    """Refuse the full network of a run where MODEL is none.

    Raises:
        UsageError: it is given.
    """
    if full is not None:
        raise UsageError(
            f"{named('full', full, flag='--model')}: only of use where MODEL is a run folder, and {model} is none"
        )


def refuse_known(options: Options, names: Iterable[str], run: Path | str) -> None:
    """Refuse options that a run knows itself.

    Raises:
        UsageError: the first of them that is given.
    """
    for name in names:
        if getattr(options, name) != type(options).model_fields[name].get_default():
            raise UsageError(f"{named(name, getattr(options, name))}: {run} is a run and knows its own")


def _inputs_of(examples: Inputs, size: str | Sequence[int] | None, batch: int | None, seed: int) -> Inputs:
    """Return inputs shaped like examples, but for a size and a batch that are given."""
    if batch is not None and batch < 1:
        raise UsageError(f"{named('batch', batch)}: expected a positive number")

    def sized(shape: Shape) -> Shape:
        spatial = shape[2:] if size is None or len(shape) < 3 else read_size(size, len(shape) - 2)
        return batch or shape[0], *shape[1:2], *spatial

    drawn: Inputs = draw(reshaped(examples, sized), generator_of(seed))
    return drawn
