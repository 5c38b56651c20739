"""What follows from network and data together: channels and classes of a built-in, how plans read files, the loss."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ranp import models
from ranp.data import losses
from ranp.data.dataset import Dataset
from ranp.data.sources import FromFiles, Opened, read_axes, spell_scales
from ranp.data.volumes import Scale, Volumes
from ranp.errors import UsageError, named
from ranp.figures import spell
from ranp.inputs import only_outputs
from ranp.jobs.options import BatchSize, Lossy, Network, Outputs, Patch, Voxels, Weights
from ranp.models.words import recipe_of
from ranp.options import Options

Asked = TypeVar("Asked", bound=Network)
Given = TypeVar("Given", bound=Options)
MAXDISP = 192


def as_the_model(options: Asked, source: Opened) -> Asked:
    """Return the options with what the file behind MODEL says of a training, where nobody else does.

    Those are batch, weights, and how volumes are read; the cases of `source` are read so too.

    Raises:
        UsageError: as `recipe_of`.
    """
    recipe = recipe_of(options.model)
    update: dict[str, Any] = {}
    if isinstance(options, BatchSize):
        update["batch_size"] = options.batch_size or (recipe.batch if recipe else 1)
    if recipe is not None and isinstance(options, Weights):
        update["weights"] = options.weights or recipe.weights
    if recipe is not None and isinstance(source, FromFiles) and isinstance(options, Voxels):
        source.dataset = as_planned(source.dataset, options)
        if isinstance(source.dataset, Volumes):
            sampling = source.dataset.sampling
            update["spacing"] = "x".join(f"{each:.15g}" for each in sampling.spacing) or None
            update["axes"] = "".join("xyz"[axis] for axis in sampling.axes) or None
            update["scales"] = spell_scales(sampling.scales)
    return options.model_copy(update=update)


def as_planned(dataset: Dataset[Any], options: Options) -> Dataset[Any]:
    """Return cases of volumes as the file behind MODEL says that they are read, where options do not say.

    Raises:
        UsageError: as `recipe_of`, or data that are not read for this network.
    """
    recipe = recipe_of(options.model) if isinstance(options, Network) else None
    if recipe is None or not isinstance(dataset, Volumes) or not isinstance(options, Voxels):
        return dataset
    if recipe.unread:
        raise UsageError(f"{named('data', dataset.root)}: {recipe.unread}; {named('method', 'l1')} needs no data")
    dims = len(dataset.grid(dataset.cases[0]).shape)
    if dataset.prepared:
        check_slices(dataset, len(recipe.shape) - 1)
        return dataset
    axes = recipe.axes if dims == 3 else tuple(axis for axis in recipe.axes if axis < 2)
    spacing = recipe.spacing if len(recipe.spacing) in (0, dims) else (*recipe.spacing, 0.0)  # across slices it stays
    scales = tuple(None if each is None else Scale.of_plain(each) for each in recipe.scales)
    return replace(
        dataset,
        sampling=replace(
            dataset.sampling,
            spacing=dataset.sampling.spacing or spacing,
            axes=read_axes(options.axes) or axes,
            scales=dataset.sampling.scales or (scales if options.intensity == "auto" else ()),
        ),
    )


def check_slices(dataset: Volumes, dims: int) -> None:
    """Refuse volumes that nnU-Net prepared, for a network of images: they lie with the slices along their first axis.

    Raises:
        UsageError: so it is.
    """
    if dims == 2 and dataset.prepared and len(dataset.grid(dataset.cases[0]).shape) == 3:
        slices = "prepared volumes, which a 2D network sees slice by slice; expected the raw data set"
        raise UsageError(f"{named('data', dataset.root)}: {slices}")


def as_the_data(options: Asked, source: Opened) -> Asked:
    """Return the options with the channels and classes of the data, where nobody says those of a built-in.

    The size of a loader's batches is that of the patch.
    """
    update: dict[str, Any] = {"data": source.word}
    shapes = source.input_shapes()
    if shapes and len(shapes[0]) > 1 and not getattr(options, "input", None):
        assert isinstance(options, Patch)
        update["patch"] = options.patch or spell(shapes[0][1:])
    if options.model in models.names():
        known = models.full_settings(options.model, options.preset)
        said = {*options.settings, *(models.preset(options.model, options.preset).settings if options.preset else ())}
        if options.in_channels is None and "in_channels" in {*known} - said and len(source.channels()) == 1:
            update["in_channels"] = source.channels()[0]
        if options.classes is None and "classes" in {*known} - said:
            update["classes"] = source.classes()
    return options.model_copy(update=update)


def maxdisp_of(model: str, preset: str | None, settings: Mapping[str, Any]) -> int:
    """Return the largest disparity of a stereo network, as its settings say."""
    known = models.full_settings(model, preset, settings) if model in models.names() else settings
    return int(known.get("maxdisp", MAXDISP))


def asks_values(word: str, model: str, preset: str | None) -> bool:
    """Whether a loss compares values, or stands in for one of a built-in that does."""
    own = models.default_loss(model, preset) if model in models.names() else ""
    return bool({word, own} & losses.VALUED)


def loss_of(
    options: Lossy,
    model: str,
    preset: str | None,
    output: tuple[int, ...],
    source: Opened,
    maxdisp: int,
    *,
    trusted: bool,
    training: bool = False,
) -> tuple[str, losses.Loss]:
    """Return the word of the loss that is asked for, or that follows, and the loss.

    Args:
        options: --loss and what belongs to it; with `Outputs`, the outputs that count.
        model: MODEL, whose own loss counts where it is a built-in.
        preset: of it.
        output: shape of the network's output, without the batch.
        source: the data.
        maxdisp: of a stereo network.
        trusted: whether the user named the loss.
        training: whether it is trained by: then Dice is added to the cross-entropy of dense outputs, without which
            small structures are learned late, but where a preset says what was published.

    Raises:
        UsageError: as `losses.get`.
    """
    own = models.default_loss(model, preset) if model in models.names() else "ce"
    if training and own == "ce" and len(output) > 1 and preset is None:
        own = "ce-dice"
    channels = output[0] if output else 0
    follows = losses.for_channels(own, channels) if source.task is None else losses.for_task(source.task, channels, own)
    word = options.loss or follows
    function = losses.get(
        word, options.loss_settings, supervision=options.deep_supervision, trusted=trusted,
        **({"maxdisp": maxdisp} if word == "stereo" else {}),
    )  # fmt: skip
    return word, only_outputs(function, options.outputs if isinstance(options, Outputs) else ())
