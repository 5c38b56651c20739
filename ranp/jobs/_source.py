"""What the options of data name, opened before any network is built."""

from dataclasses import replace

from ranp.data.sources import FromFiles, Opened, Reading, open_source, read_axes, read_scales, read_spacing
from ranp.data.volumes import Sampling
from ranp.errors import UsageError, named
from ranp.jobs.options import Cut, Files, Labelled, Source, Voxels
from ranp.options import Options


def opened(options: Source, *, trusted: bool = True) -> Opened:
    """Open the data that options name.

    Args:
        options: with the groups `Source`, `Files` and `Labelled`, and `Voxels` or `Cut` where volumes are read.
        trusted: whether the user named the data; a loader that a run's files name is never called.

    Raises:
        UsageError: as `open_source`.
        MissingExtra: as `open_source`.
    """
    assert isinstance(options, Files)
    return open_source(
        options.data, options.images, options.labels, settings=options.data_settings, keys=options.keys,
        reading=reading_of(options), trusted=trusted,
    )  # fmt: skip


def reading_of(options: Options) -> Reading:
    """Return how options say that files are read.

    Args:
        options: with the group `Labelled`, and `Voxels` or `Cut` where volumes are read.

    Raises:
        UsageError: a spacing, axes or scales that are none.
    """
    assert isinstance(options, Labelled)
    sampling = Sampling()
    if isinstance(options, Voxels):
        sampling = replace(sampling, intensity=options.intensity, spacing=read_spacing(options.spacing))
        sampling = replace(sampling, axes=read_axes(options.axes), scales=read_scales(options.scales))
        if sampling.scales and options.intensity != "auto":
            raise UsageError(f"{named('scales', options.scales)}: {named('intensity', options.intensity)} scales, too")
    if isinstance(options, Cut):
        sampling = replace(sampling, foreground=options.foreground, pad=options.pad)
    return Reading(options.label_map or "", options.ignore_label, options.regions or "", sampling)


def folded(source: FromFiles, text: str) -> FromFiles:
    """Return the training cases of a source, one part of them for validation.

    Args:
        source: cases on the disk.
        text: --fold, such as 0/5.

    Raises:
        UsageError: no such part.
    """
    fold, slash, parts = text.partition("/")
    if not slash or not fold.isdigit() or not parts.isdigit():
        raise UsageError(f"{named('fold', text)}: expected K/N, such as 0/5")
    return FromFiles(source.word, source.dataset.folded(int(fold), int(parts)))
