"""The input two networks are compared at: the proof is about structure, so that it need not be a large one."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranp.errors import UsageError, named
from ranp.figures import spell_all
from ranp.inputs import Inputs, Shape, as_arguments, flatten, map_tensors, range_of, ranged
from ranp.models.request import read_size
from ranp.modules import undisturbed, unwrapped
from ranp.surgery.paths import BATCH, STEPS, Axis, Paths, axes_of, resized

Size = str | int | Sequence[int]
SIDE = 4  # of an image on which the taps of a kernel are told apart
SMALL = 256  # elements of an image that is small enough as it is
SAMPLES = 2


@undisturbed()
def compared_at(model: nn.Module, example_inputs: Inputs, size: Size | None = None) -> Any:
    """Return example inputs cut to the smallest size on which a network does what it does on the whole ones.

    The ops and the widths of their paddings are the same there, and every statistic (a variance, a softmax) is taken
    over at least four elements, or as many as in the example.

    Args:
        model: the full network.
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword ones.
        size: the spatial size to take instead, such as 32, (16, 32, 32) or "16x32x32".

    Raises:
        UsageError: a size that is none, or at which the network does something else.
    """
    shapes = {str(index): tuple(tensor.shape) for index, tensor in enumerate(flatten(as_arguments(example_inputs)))}
    if size is None and all(math.prod(shape[2:]) <= SMALL and shape[:1] <= (SAMPLES,) for shape in shapes.values()):
        return example_inputs
    try:
        paths = Paths(unwrapped(model), as_arguments(example_inputs), tuple(shapes))
    except Exception:  # it does not run by itself on zeros; the trace knows more ways
        paths = None
    if size is not None:
        return _cut(example_inputs, _asked(paths, shapes, size))
    return example_inputs if paths is None else _cut(example_inputs, _smallest(paths))


def _smallest(paths: Paths) -> dict[str, Shape]:
    axes = axes_of(paths.shapes) if next(iter(paths.shapes.values())) else []
    spatial = [axis for axis in axes if axis.name != BATCH]
    best = paths.shapes
    for sizes in _halves(spatial):
        if not paths.same(shapes := resized(paths.shapes, zip(spatial, sizes, strict=True)), defined=True):
            break
        best = shapes
    for sizes in _steps(spatial):
        shapes = resized(paths.shapes, zip(spatial, sizes, strict=True))
        if _volume(shapes) < _volume(best) and paths.same(shapes, defined=True):
            best = shapes
            break
    batch = [(axis, SAMPLES) for axis in axes if axis.name == BATCH and axis.size > SAMPLES]
    fewer = resized(best, batch)
    return fewer if batch and paths.same(fewer, defined=True) else best


def _halves(axes: list[Axis]) -> Iterator[list[int]]:
    """Yield sizes halved together, again and again, as long as they can be."""
    sizes = [axis.size for axis in axes]
    while sizes and all(size % 2 == 0 and size // 2 >= SIDE for size in sizes):
        sizes = [size // 2 for size in sizes]
        yield sizes


def _steps(axes: list[Axis]) -> list[list[int]]:
    """Return sizes a multiple of a power of two below the example's, the least first."""
    sizes = []
    for step in STEPS:
        for times in (0, 1):
            least = [(axis.size % step or step) + times * step for axis in axes]
            least = [each + -(-(SIDE - each) // step) * step if each < SIDE else each for each in least]
            sizes.append([min(size, axis.size) for size, axis in zip(least, axes, strict=True)])
    return sorted({tuple(each): each for each in sizes if each}.values(), key=math.prod)


def _volume(shapes: dict[str, Shape]) -> int:
    return sum(map(math.prod, shapes.values()))


def _asked(paths: Paths | None, shapes: dict[str, Shape], size: Size) -> dict[str, Shape]:
    """Return shapes of the size that was asked for; inputs of other sizes than the first are scaled with it."""
    first = next((shape[2:] for shape in shapes.values() if len(shape) > 2), None)
    told = named("verify_input", size)
    if first is None:
        raise UsageError(f"{told}: the inputs {spell_all(shapes.values())} have no spatial size")
    wanted = read_size(size if isinstance(size, str | Sequence) else (size,), len(first), "verify_input")
    asked = dict(shapes)
    for name, shape in shapes.items():
        if len(shape) == len(first) + 2:
            lengths = zip(shape[2:], wanted, first, strict=True)
            asked[name] = (*shape[:2], *(length * new // old for length, new, old in lengths))
    if asked != shapes and (paths is None or not paths.same(asked)):
        closest = spell_all([next(s for s in _smallest(paths).values() if len(s) > 2)[2:]]) if paths else "none"
        raise UsageError(
            f"{told}: the network does not do there what it does on {spell_all([first])}; the smallest size on which "
            f"it does: {closest}"
        )
    return asked


def _cut(example_inputs: Inputs, shapes: dict[str, Shape]) -> Any:
    """Return inputs of other shapes: without data, but for whole numbers, which are cut."""
    left = iter(shapes.values())

    def cut(tensor: Tensor) -> Tensor:
        shape = next(left)
        fits = all(new <= old for new, old in zip(shape, tensor.shape, strict=True))
        if tensor.is_floating_point() or tensor.is_complex() or tensor.is_meta or not fits:
            return ranged(torch.empty(shape, dtype=tensor.dtype, device="meta"), range_of(tensor))
        return ranged(tensor[tuple(slice(size) for size in shape)], range_of(tensor))

    return map_tensors(example_inputs, cut)
