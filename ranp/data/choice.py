"""What --data, --images, --labels, --patch, --batches and --batch-size ask for: a source of batches for a network."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ranp.data import volumes
from ranp.data._batches import Source
from ranp.data._generators import generated
from ranp.data.volumes import nifti
from ranp.errors import UsageError, named, nearest, told
from ranp.figures import spell
from ranp.inputs import check_outputs, flatten, places_of
from ranp.modules import copy_with, on_meta

Shape = tuple[int, ...]
KINDS = ("phantom", "nifti")


def choose_source(
    kind: str,
    input_shapes: Sequence[Shape],
    output_shape: Shape,
    *,
    images: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    classes: int | None = None,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    maxdisp: int = 192,
) -> Source:
    """Return the batches a network of these shapes is scored on.

    Args:
        kind: --data: "phantom" generates, "nifti" reads files.
        input_shapes: of every input without the batch, (C, *patch).
        output_shape: of the output without the batch, (classes, *patch) or (classes,); one channel tells a foreground
            from the background, two classes.
        images: --images.
        labels: --labels.
        classes: --classes, compared with what the network gives; 1 or 2 where that is one channel.
        batches: how many.
        batch_size: samples in each.
        seed: of everything drawn.
        maxdisp: of a stereo network.

    Raises:
        UsageError: an unknown kind, files without `nifti`, or what the source itself refuses.
    """
    if kind not in KINDS or kind == "phantom":
        check_files(kind, images, labels)
    if classes is not None and output_shape and classes not in _classes_of(output_shape):
        raise UsageError(f"{named('classes', classes)}: the network gives {output_shape[0]}")
    if kind == "phantom":
        return generated(input_shapes, output_shape, batches, batch_size, seed, maxdisp=maxdisp)
    channels, *patch = input_shapes[0]
    if len(input_shapes) != 1 or len(output_shape) != len(patch) + 1:
        gives = f"{len(input_shapes)} input(s) to output {spell(output_shape)}"
        raise UsageError(
            f"{named('data', 'nifti')}: needs a network of one image to a score per voxel; this is {gives}"
        )
    return nifti(
        images,
        labels,
        patch,
        max(_classes_of(output_shape)),
        batches,
        batch_size,
        seed,
        channels=channels,
        spatial_dims=len(patch),
    )


def check_files(kind: str, images: Sequence[Path], labels: Sequence[Path]) -> None:
    """Refuse files that are missing, don't fit each other or show nothing, before any network is built.

    Args:
        kind: --data.
        images: --images.
        labels: --labels.

    Raises:
        UsageError: an unknown kind, files without `nifti`, or what `volumes.check` refuses.
    """
    if kind not in KINDS:
        raise UsageError(f"{named('data', kind)}: expected {' or '.join(KINDS)}{nearest(kind, KINDS)}")
    if kind == "phantom" and (images or labels):
        raise UsageError(f"{named('images')} and {named('labels')}: need {named('data', 'nifti')}")
    if kind == "nifti":
        volumes.check(images, labels)


def _classes_of(output_shape: Shape) -> tuple[int, ...]:
    """Return how many classes an output may be said to tell apart."""
    return (1, 2) if output_shape[0] == 1 else (output_shape[0],)


def output_shape(network: nn.Module, shapes: Sequence[Shape], places: Sequence[int] = ()) -> Shape:
    """Return the shape of a network's first output that is no scalar, in evaluation mode and without the batch.

    Args:
        network: untouched; it runs on meta tensors where it can.
        shapes: of every input, with the batch.
        places: --outputs, the outputs that count; all where there are none.

    Raises:
        UsageError: no output has such a place, or the network does not run on such inputs or gives no tensor.
    """
    try:
        outputs = _run(on_meta(network), shapes, "meta")
    except Exception:  # a network may read values while it runs; its real complaint comes from the real run
        outputs = _run_for_real(network, shapes)
    leaves = flatten(outputs, spend=True)
    check_outputs(places, len(leaves))
    counted = places_of(places, len(leaves))
    for place, leaf in enumerate(leaves):
        if place in counted and leaf.dim():
            return tuple(leaf.shape[1:])
    raise UsageError(f"{type(network).__name__} gives no tensor")


def _run_for_real(network: nn.Module, shapes: Sequence[Shape]) -> object:
    try:
        with torch.random.fork_rng(devices=[]):
            return _run(copy_with(network), shapes, "cpu")
    except Exception as error:  # the user's forward may raise anything
        sizes = " and ".join(spell(shape) for shape in shapes)
        reason = told(error, 200)
        raise UsageError(
            f"{type(network).__name__} does not run on an input of {sizes} ({named('patch')}, {named('input')}): "
            f"{reason}"
        ) from error


def _run(network: nn.Module, shapes: Sequence[Shape], device: str) -> object:
    with torch.no_grad():
        return network.eval()(*(torch.zeros(shape, device=device) for shape in shapes))
