"""Random patches of volumes that are named one by one."""

from collections.abc import Sequence
from pathlib import Path

from ranp.data._batches import Source, check_patch
from ranp.data.dataset import Drawn
from ranp.data.volumes import files
from ranp.errors import UsageError, named


def nifti(
    images: Sequence[str | Path],
    labels: Sequence[str | Path],
    patch: Sequence[int],
    classes: int,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    *,
    channels: int | None = None,
    spatial_dims: int | None = None,
    workers: int = 0,
) -> Source:
    """Random patches of volumes, each channel z-normalised, half of them centred on a labelled voxel.

    Args:
        images: one file per case, NIfTI, NRRD, MHA or a DICOM folder; channels are the last dimension of its file.
        labels: one file of integer labels per image, in the same order.
        patch: spatial size; two sizes cut slices across the last dimension of a volume. Smaller volumes are padded.
        classes: labels are 0 to classes - 1; others are taken in order where as many values occur, as 0 and 255.
        batches: how many batches.
        batch_size: patches in a batch.
        seed: of the patches' places.
        channels: of the network, to check the images against.
        spatial_dims: of the network, to check the patch against.
        workers: processes that draw ahead.

    Returns:
        Batches of float32 (B, C, *patch) and int64 (B, *patch).

    Raises:
        UsageError: files, shapes, values or numbers that don't fit; every message names the option and the value. All
            headers, labels and the first case are read here, the voxels of the others when they are drawn.
        MissingExtra: a reader is not installed.
    """
    size = check_patch(patch, spatial_dims)
    dataset = files(images, labels)
    (own,) = dataset.check_headers()
    if channels not in (None, own):
        takes = f"the network takes {channels} ({named('channels', flag='--in-channels')})"
        raise UsageError(f"{named('images', images[0])}: {own} channel(s), {takes}")
    dataset = dataset.for_classes(classes)
    drawn = Drawn(dataset, dataset.cases, ((own, *size),), seed, batches * batch_size)
    source = Source(drawn, batches, batch_size, workers)
    drawn(0)
    return source
