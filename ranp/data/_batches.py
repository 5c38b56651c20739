"""What every source of batches is: a rule for the k-th sample, and how many samples make a batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranp.errors import UsageError, named
from ranp.figures import spell

Sample = tuple[tuple[Tensor, ...], Tensor]


@dataclass(frozen=True)
class Source:
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
    names: tuple[str, ...] = ()
    """Of keyword inputs, in the order of the sample's."""
    dtypes: tuple[torch.dtype, ...] = ()
    """Of the inputs; as the samples have them where none are given."""

    def __post_init__(self) -> None:
        for option, value in (("batches", self.batches), ("batch_size", self.batch_size)):
            if value < 1:
                raise UsageError(f"{named(option, value)}: expected at least 1")

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:  # Any: which of both it is, the caller knows
        for start in range(0, self.batches * self.batch_size, self.batch_size):
            inputs, targets = zip(*map(self.sample, range(start, start + self.batch_size)), strict=True)
            stacked = tuple(torch.stack(parts) for parts in zip(*inputs, strict=True))
            if self.dtypes:
                stacked = tuple(part.to(dtype) for part, dtype in zip(stacked, self.dtypes, strict=True))
            several: Any = dict(zip(self.names, stacked, strict=True)) if self.names else stacked
            yield several if self.names or len(stacked) > 1 else stacked[0], torch.stack(targets)


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
