"""Batches of a loader of the user's own: a function, `file.py:function` or `package.module:function`.

What it returns is any iterable of batches, such as a DataLoader, or a function with `yield`. A batch is a pair
(inputs, target), or a dict as MONAI's `list_data_collate` makes it. An iterable that can be read once only, such as a
generator, is made anew for every iteration, by calling the function again.

A loader is code, so the user has to have named it: what a run's files name is never called.
"""

import importlib.util
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ranp.data.paired import KEYS, Key, Paired
from ranp.errors import UsageError, described, named, saying
from ranp.models.settings import check_settings
from ranp.models.spec import beside, import_named

_FORMS = "(inputs, target), or a dict of tensors with image and label (other names by {keys})"


def names_loader(source: str, layouts: Iterable[str] = ()) -> bool:
    """Whether --data names a function: its file or module is there, or can only be meant.

    Args:
        source: --data.
        layouts: words that may stand before a colon too; those are no modules.
    """
    where, colon, name = source.rpartition(":")
    if not colon or where in layouts or Path(source).exists():
        return False
    if where.endswith(".py"):
        return True
    if not all(part.isidentifier() for part in [*where.split("."), *name.split(".")]):
        return False
    with beside(source), suppress(ValueError):  # of a module without a place, such as __main__
        return "." in where or importlib.util.find_spec(where) is not None
    return False


def load(
    spec: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    keys: tuple[Key, Key] = KEYS,
    batches: int | None = None,
    seed: int = 0,
    *,
    trusted: bool = True,
) -> "Loader":
    """Call a loader of the user's own, and look at its first batch.

    Args:
        spec: `file.py:function`, or `package.module:function`, also of the current folder.
        settings: --set-data, its keyword arguments.
        keys: of the inputs and of the target, where batches are dicts.
        batches: how many are taken; None for all.
        seed: of the numbers it draws from the global generators of torch, numpy and Python.
        trusted: whether the user named it; False for what a run's files name.

    Raises:
        UsageError: nothing of that name, no function, settings that it does not take, an error in it, or batches that
            are none; the accepted forms are said.
    """
    said = named("data", spec)
    if not trusted:
        raise UsageError(f"{spec}: a run's files never make ranp call this loader by themselves; repeat it with {said}")
    if spec.endswith(".py"):
        raise UsageError(f"{said}: write {spec}:function for a function in that file")
    function = import_named(spec, said)
    if not callable(function):
        is_one = f"is {described(function)}; expected a function that returns an iterable of batches"
        raise UsageError(f"{said}: {is_one}")
    check_settings(function, settings, spec, "--set-data")
    loader = Loader(spec, function, dict(settings), keys, batches, seed)
    loader.first()
    return loader


@dataclass(frozen=True)
class Loader:
    """Batches of (inputs, target) as a function of the user's own gives them.

    It can be iterated again and draws the same numbers then; what it draws leaves the global generators as they were.
    """

    spec: str
    function: Callable[..., Any]
    settings: Mapping[str, Any]
    keys: tuple[Key, Key]
    batches: int | None
    seed: int
    _made: list[Any] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        """Return how many batches there are.

        Raises:
            TypeError: what the function returned does not know.
        """
        if not self._made:
            raise TypeError(f"{self.spec} gives batches without saying how many")
        count = len(self._made[0])
        return count if self.batches is None else min(count, self.batches)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        paired, drawing = Paired((), self.keys), _drawing(self.seed)
        with self._running("", drawing):
            iterator = self._begun()
        for number in islice(range(2**63), self.batches):
            with self._running(f": batch {number + 1}", drawing):
                batch = next(iterator, self)
            if batch is self:
                return
            yield self._checked(paired.pair(batch, number + 1), number + 1)

    def first(self) -> tuple[Any, Any]:
        """Return the first batch.

        Raises:
            UsageError: there is none, or it is of no accepted form.
        """
        batch = next(iter(self), None)
        if batch is None:
            raise UsageError(f"{named('data', self.spec)}: returned no batches; {self._expected}")
        return batch

    @property
    def _expected(self) -> str:
        return f"expected an iterable of batches, each {_FORMS.format(keys=named('keys'))}"

    @contextmanager
    def _running(self, where: str, drawing: Callable[[], Any]) -> Iterator[None]:
        """Run the user's code: beside its file, with its own numbers, and its errors said as the user's."""
        with saying(UsageError, f"{named('data', self.spec)}{where}"), beside(self.spec), drawing():
            yield

    def _begun(self) -> Iterator[Any]:
        """Begin to read what the function returns; it is called again where that can be read once only."""
        if not self._made:
            made = self.function(**self.settings)
            if isinstance(made, Mapping | str | Tensor) or not hasattr(made, "__iter__"):
                raise UsageError(f"{named('data', self.spec)}: returned {described(made)}; {self._expected}")
            iterator: Iterator[Any] = iter(made)
            if iterator is not made:
                self._made.append(made)
            return iterator
        return iter(self._made[0])

    def _checked(self, pair: Any, number: int) -> tuple[Any, Any]:
        """Return a batch that is a pair of tensors.

        Raises:
            UsageError: it is something else.
        """
        where = f"{named('data', self.spec)}: batch {number}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            is_one = f"{described(pair)} of {len(pair)}" if isinstance(pair, tuple | list) else described(pair)
            raise UsageError(f"{where} is {is_one}; expected {_FORMS.format(keys=named('keys'))}")
        for word, part in zip(("inputs", "target"), pair, strict=True):
            leaves = tree_leaves(part)
            others = [leaf for leaf in leaves if not isinstance(leaf, Tensor | bool | int | float | str | None)]
            if others or not any(isinstance(leaf, Tensor) for leaf in leaves):
                hold = " and ".join(dict.fromkeys(map(described, others or leaves))) or "nothing"
                raise UsageError(f"{where}: its {word} hold {hold}; expected tensors")
        return pair[0], pair[1]


def _drawing(seed: int) -> Callable[[], Any]:
    """Return a context in which the global generators of torch, numpy and Python are a loader's own."""

    def states() -> tuple[Any, ...]:
        return torch.get_rng_state(), np.random.get_state(), random.getstate()

    def enter(torch_state: Tensor, numpy_state: Any, python_state: Any) -> None:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)

    own = [
        (torch.Generator().manual_seed(seed).get_state(), np.random.RandomState(seed % 2**32).get_state(),
         random.Random(seed).getstate())
    ]  # fmt: skip

    @contextmanager
    def drawing() -> Iterator[None]:
        others = states()
        enter(*own[0])
        try:
            yield
        finally:
            own[0] = states()
            enter(*others)

    return drawing
