"""What every source of batches is: a rule for the k-th sample, and how many samples make a batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from ranp.errors import RanpError, UsageError, named
from ranp.figures import spell
from ranp.processes import OTHERS

Sample = tuple[tuple[Tensor, ...], Tensor]


@dataclass(frozen=True)
class Source(torch.utils.data.Dataset[tuple[Any, Tensor]]):
    """Batches of (inputs, target), drawn one by one and the same at every iteration.

    A network of one input gets a tensor, one of several a tuple, one whose inputs have names a dict; each is
    (B, C, *spatial), float32 unless `dtypes` says otherwise.

    Raises:
        UsageError: fewer than one batch, or than one sample in it.
    """

    sample: Callable[[int], Sample]
    """The k-th sample: the network's inputs and the target, without the batch."""
    batches: int
    batch_size: int
    workers: int = 0
    """Processes that draw batches ahead; the batches and their order are the same for any number."""
    names: tuple[str, ...] = ()
    """Of keyword inputs, in the order of the sample's."""
    dtypes: tuple[torch.dtype, ...] = ()
    """Of the inputs; as the samples have them where none are given."""

    def __post_init__(self) -> None:
        for option, value, least in (("batches", self.batches, 1), ("batch_size", self.batch_size, 1),
                                     ("workers", self.workers, 0)):  # fmt: skip
            if value < least:
                raise UsageError(f"{named(option, value)}: expected at least {least}")

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:  # Any: which of both it is, the caller knows
        return self.since(0)

    def since(self, first: int) -> Iterator[tuple[Any, Tensor]]:
        """Draw the batches from a number on, without those before."""
        yield from self._drawn(range(first, self.batches))

    def shared(self, rank: int, count: int) -> Iterator[Any]:
        """Draw every `count`-th batch from `rank` on; OTHERS stands in the places of the others."""
        own = self._drawn(range(rank, self.batches, count))
        for number in range(self.batches):
            yield next(own) if number % count == rank else OTHERS

    def _drawn(self, numbers: range) -> Iterator[tuple[Any, Tensor]]:
        if not self.workers:
            yield from map(self.__getitem__, numbers)
            return
        count = min(self.workers, len(numbers))
        loader = DataLoader(
            _Told(self),
            batch_size=None,
            sampler=numbers,
            num_workers=count,
            generator=Generator(),
            collate_fn=_as_it_is,
        )
        for batch in loader:
            if isinstance(batch, RanpError):
                raise batch
            yield batch

    def __getitem__(self, number: int) -> tuple[Any, Tensor]:
        """Draw the batch of a number."""
        first = number * self.batch_size
        inputs, targets = zip(*map(self.sample, range(first, first + self.batch_size)), strict=True)
        stacked = tuple(torch.stack(parts) for parts in zip(*inputs, strict=True))
        if self.dtypes:
            stacked = tuple(part.to(dtype) for part, dtype in zip(stacked, self.dtypes, strict=True))
        several: Any = dict(zip(self.names, stacked, strict=True)) if self.names else stacked
        return several if self.names or len(stacked) > 1 else stacked[0], torch.stack(targets)


@dataclass(frozen=True)
class _Told(torch.utils.data.Dataset[Any]):
    """A source inside a worker: its errors are handed on as they are, and not as the worker's traceback."""

    source: Source

    def __getitem__(self, number: int) -> Any:
        try:
            return self.source[number]
        except RanpError as error:
            return error

    def __len__(self) -> int:
        return len(self.source)


def _as_it_is(batch: Any) -> Any:
    """Let the tuple that several inputs are stay one: torch's own function makes it a list."""
    return batch


def generator(seed: int, index: int) -> np.random.Generator:
    """The generator of the k-th sample, the same whichever samples were drawn before.

    Raises:
        UsageError: a negative seed.
    """
    if seed < 0:
        raise UsageError(f"{named('seed', seed)}: expected 0 or more")
    return np.random.default_rng([seed, index])


def check_patch(patch: Sequence[int], spatial_dims: int | None = None) -> tuple[int, ...]:
    """Refuse a patch that is no size of a 2D or 3D image, or not of as many dimensions as the network's.

    Raises:
        UsageError: naming `--patch`.
    """
    if len(patch) not in (2, 3) or min(patch) < 1:
        raise UsageError(f"{named('patch', spell(patch))}: expected two or three positive sizes")
    if spatial_dims is not None and len(patch) != spatial_dims:
        raise UsageError(f"{named('patch', spell(patch))}: the network takes {spatial_dims} spatial dimensions")
    return tuple(patch)
