"""Generated samples for any network, told by the shapes it takes and gives alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.data._batches import Sample, Source, generator
from ranp.data._noise import pink
from ranp.data._pairs import stereo
from ranp.data._phantoms import phantom
from ranp.errors import UsageError, named

Shape = Sequence[int]


def generated(
    input_shapes: Sequence[Shape],
    output_shape: Shape,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    *,
    maxdisp: int = 192,
    below: Sequence[int | None] = (),
    values: bool = False,
) -> Source:
    """Samples that a network of these shapes can be scored on.

    One image in and class scores of its size out: `phantom`; one score is that of a foreground, labels are 0 and 1.
    Two images in and one map of their size out: `stereo`.
    Everything else: `random_like`.

    Args:
        input_shapes: of every input, (C, *spatial).
        output_shape: of the (last) output: (classes,), (classes, *spatial), or (H, W) of a stereo network.
        batches: how many batches.
        batch_size: samples in a batch.
        seed: of everything drawn.
        maxdisp: disparities of a stereo pair stay below it.
        below: as `random_like`, which it is then.
        values: likewise.

    Raises:
        UsageError: shapes that fit none of the three.
    """
    first, out = tuple(input_shapes[0]), tuple(output_shape)
    if any(below) or values:
        return random_like(input_shapes, out, batches, batch_size, seed, below=below, values=values)
    if len(input_shapes) == 2 and len(first) == 3 and out == first[1:]:
        return stereo(first[1:], maxdisp, batches, batch_size, seed, channels=first[0])
    if len(input_shapes) == 1 and len(first) in (3, 4) and out[1:] == first[1:]:
        return phantom(first[1:], first[0], max(out[0], 2), batches, batch_size, seed)
    return random_like(input_shapes, out, batches, batch_size, seed)


def random_like(
    input_shapes: Sequence[Shape],
    output_shape: Shape,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    *,
    below: Sequence[int | None] = (),
    values: bool = False,
) -> Source:
    """Pink noise for every input, and random classes, or noise as values, to go with it.

    Neighbouring pixels and frames of pink noise are alike, as in photographs and clips; white noise is all edges.
    Inputs without spatial dimensions are standard normal, inputs of whole numbers are uniform.

    Args:
        input_shapes: of every input, (C, *spatial), (C,) or ().
        output_shape: (classes,) for one class per sample, (classes, *spatial) for a smooth map of classes; one class
            is a foreground, which is there or not.
        batches: how many batches.
        batch_size: samples in a batch.
        seed: of everything drawn.
        below: of every input the number its whole numbers are below, None of real numbers; () where all are real.
        values: give the output's own shape in real numbers, for what is no classification.

    Returns:
        Batches of float32 (B, C, *spatial), int64 where whole, and int64 (B,) or (B, *spatial); values are float32.

    Raises:
        UsageError: an output without a dimension of classes.
    """
    out = tuple(output_shape)
    if not out or min(out) < 1:
        raise UsageError(f"{named('data', 'phantom')}: an output of shape {out} has no classes to draw")

    def sample(index: int) -> Sample:
        rng = generator(seed, index)
        bounds = below or (None,) * len(input_shapes)
        inputs = tuple(_input(tuple(shape), bound, rng) for shape, bound in zip(input_shapes, bounds, strict=True))
        return inputs, _input(out, None, rng) if values else torch.from_numpy(_classes(out, rng))

    return Source(sample, batches, batch_size)


def _input(shape: tuple[int, ...], below: int | None, rng: np.random.Generator) -> Tensor:
    if below is not None:
        return torch.from_numpy(np.asarray(rng.integers(below, size=shape), dtype=np.int64))
    if len(shape) < 2:
        return torch.from_numpy(np.asarray(rng.standard_normal(shape), dtype=np.float32))
    return torch.from_numpy(pink(shape, rng))


def _classes(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    drawn = (max(shape[0], 2), *shape[1:])
    if len(drawn) == 1:
        return np.asarray(rng.integers(drawn[0]), dtype=np.int64)
    labels: NDArray[np.int64] = pink(drawn, rng).argmax(axis=0).astype(np.int64)
    return labels
