"""Batches as people's loaders give them, read as pairs of (inputs, target)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ranp.errors import UsageError, WrongType, check_type, listed, named, nearest
from ranp.inputs import Inputs
from ranp.processes import OTHERS, share

Key = str | Sequence[str]
KEYS = ("image", "label")


@dataclass(frozen=True)
class Paired:
    """Batches that are dicts, read as (inputs, target) by key; pairs pass as they are.

    Args:
        batches: dicts of tensors, as MONAI's `list_data_collate` makes them, or pairs. Tensors of a subclass, such as
            MONAI's, become plain ones, which share their memory.
        keys: of the inputs and of the target. Several keys of inputs, in a tuple, are positional inputs.

    >>> import torch
    >>> batch = {"t1": torch.zeros(1, 1, 4), "t2": torch.ones(1, 1, 4), "seg": torch.zeros(1, 1, 4)}
    >>> inputs, target = next(iter(Paired([batch], (("t1", "t2"), "seg"))))
    >>> len(inputs), target.shape
    (2, torch.Size([1, 1, 4]))
    """

    batches: Iterable[Any]
    keys: tuple[Key, Key] = KEYS

    def __post_init__(self) -> None:
        pair = isinstance(self.keys, tuple | list) and len(self.keys) == 2
        check_type("keys", self.keys, pair, "two: of the inputs and of the target, such as ('image', 'label')")

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # a TypeError where they have none, as for them

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self.batches, start=1):
            yield self.pair(batch, number)

    def shared(self, rank: int, count: int) -> Iterator[Any]:
        """Read what `ranp.processes.share` gives of the batches, OTHERS in the place of another's."""
        for number, batch in enumerate(share(self.batches, rank, count), start=1):
            yield batch if batch is OTHERS else self.pair(batch, number)

    def pair(self, batch: Any, number: int) -> Any:
        """Return a dict as a pair, anything else as it is.

        Raises:
            UsageError: a key it has not.
        """
        if isinstance(batch, Mapping):
            batch = tuple(self._values(batch, key, f"batch {number}") for key in self.keys)
        return tree_map_only(Tensor, lambda tensor: tensor.as_subclass(Tensor), batch)

    def _values(self, batch: Mapping[str, Any], key: Key, where: str) -> Any:
        if not isinstance(key, str):
            return tuple(self._values(batch, part, where) for part in key)
        if key not in batch:
            known = [str(word) for word in batch]
            what = f"{where}: a dict of {listed(known, 'and')} has no {key!r}"
            raise UsageError(
                f"{what}: name those of the inputs and the target with {named('keys')}{nearest(key, known)}"
            )
        return batch[key]


def first_inputs(batches: Iterable[Any] | None, keys: tuple[Key, Key] = KEYS) -> tuple[Inputs, Iterable[Any]]:
    """Return the inputs of the first batch, and batches that still begin with it.

    torch's global generator is left as it was, so that a loader that shuffles by it draws as if it had not been asked.

    Raises:
        UsageError: there are no batches, or the first is no pair of (inputs, target).
    """
    if batches is None:
        raise UsageError(f"give {named('example_inputs')} or {named('batches')}, whose first stands for them")
    with torch.random.fork_rng(devices=[]):
        iterator = iter(batches)
        first = next(iterator, None)
    if first is None:
        raise UsageError("batches: there are none; expected at least one (inputs, target)")
    if iterator is batches:  # it can be read only once
        batches = chain([first], iterator)
    pair = Paired((), keys).pair(first, 1)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise WrongType(f"batch 1: a {type(pair).__name__}; expected a pair (inputs, target), or a dict")
    return pair[0], batches
