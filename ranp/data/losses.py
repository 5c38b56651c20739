"""The losses a network is scored with: what `--loss` takes.

`ce` cross-entropy, `ce-dice` the BraTS loss, `stereo` the three-map disparity loss; thesis section 5.6.1.3 and
reference rules 3.3. `bce` and `bce-dice` are theirs for sigmoid outputs: one channel, or regions that overlap. `mse`
and `l1` compare values, for regression and reconstruction. A path names a loss class of MONAI or torch, or one of the
user's own (`_brought.py`). Each is a function of (outputs, target) and returns a scalar. Whether that is finite is for
the caller to judge.

All but `stereo` take whatever a network returns: one map, a list, tuple or dict of maps (deep supervision), or the
stacked maps of MONAI's DynUNet, with the target at the size of each: labels by nearest neighbour, values averaged. Maps
count alike, or as nnU-Net weighs them; a scalar among them is a loss of the network's own (the VAE branch of
SegResNetVAE) and is added. Labels may keep a channel of their own, (B, 1, *spatial), and be whole numbers of any dtype,
as MONAI's transforms give them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.data import _maps
from ranp.data._brought import bring
from ranp.data._maps import IGNORED as IGNORED
from ranp.data.dataset import Task
from ranp.errors import UsageError, listed, named, nearest
from ranp.options import is_path, loss_word

Loss = Callable[[Any, Tensor], Tensor]

_DICE_EPS = 0.1  # keeps the Dice of an absent class finite
_SOFTMAX = {"ce": "bce", "ce-dice": "bce-dice"}  # a softmax over one channel is 1, whatever the weights
_STEREO_WEIGHTS = (0.5, 0.7, 1.0)  # coarse to fine


def cross_entropy(outputs: Any, target: Tensor, *, supervision: str = "equal") -> Tensor:
    """Mean cross-entropy over all voxels whose label is not 255.

    Args:
        outputs: logits (B, classes, *spatial) or (B, classes), or several of them; two classes or more.
        target: whole numbers (B, *spatial), (B, 1, *spatial) or (B,), of any dtype.
        supervision: how several maps count: "equal", or "nnunet".

    Raises:
        UsageError: outputs that are no logits for the target, one channel, or labels beyond the classes.
    """
    pairs, own = _labelled(outputs, target, "ce")
    return _maps.combined(_cross_entropy, pairs, own, supervision)


def cross_entropy_dice(outputs: Any, target: Tensor, *, supervision: str = "equal") -> Tensor:
    """Cross-entropy plus the mean over foreground classes of 1 - soft Dice.

    That is weight 0.25 for each of BraTS' four; class 0 is the background. The published text adds the Dice
    itself (Eq. 5.21), which training would then minimise; this is what was run.

    Args:
        outputs: logits (B, classes, *spatial), or several of them.
        target: as `cross_entropy`.
        supervision: as `cross_entropy`.

    Raises:
        UsageError: as `cross_entropy`.
    """
    pairs, own = _labelled(outputs, target, "ce-dice")
    return _maps.combined(lambda m, labels: _cross_entropy(m, labels) + _dice_loss(m, labels), pairs, own, supervision)


def binary_cross_entropy(outputs: Any, target: Tensor, *, supervision: str = "equal") -> Tensor:
    """Mean binary cross-entropy of sigmoid outputs over all voxels whose label is not 255.

    Args:
        outputs: logits (B, channels, *spatial) or (B, channels), or several of them.
        target: of one channel labels 0 and 1, (B, *spatial), (B, 1, *spatial) or (B,); of several, which may overlap,
            as many masks of 0 and 1, (B, channels, *spatial). Of any dtype.
        supervision: as `cross_entropy`.

    Raises:
        UsageError: outputs that are no logits for the target, or labels other than 0 and 1.
    """
    pairs, own = _maps.masked(outputs, target, "bce")
    return _maps.combined(_binary_cross_entropy, pairs, own, supervision)


def binary_cross_entropy_dice(outputs: Any, target: Tensor, *, supervision: str = "equal") -> Tensor:
    """Binary cross-entropy plus the mean over channels of 1 - soft Dice.

    Args:
        outputs: as `binary_cross_entropy`.
        target: as `binary_cross_entropy`.
        supervision: as `cross_entropy`.

    Raises:
        UsageError: as `binary_cross_entropy`.
    """
    pairs, own = _maps.masked(outputs, target, "bce-dice")

    def term(m: Tensor, t: Tensor) -> Tensor:
        return _binary_cross_entropy(m, t) + _overlap_loss(m.sigmoid() * (t != IGNORED), t * (t != IGNORED)).mean()

    return _maps.combined(term, pairs, own, supervision)


def mean_squared_error(outputs: Any, target: Tensor, *, supervision: str = "equal") -> Tensor:
    """Mean squared difference of values, for regression and reconstruction.

    Args:
        outputs: values (B, C, *spatial), (B, C) or (B,), or several of them.
        target: numbers of the same shape; where there is one channel, without it too. Averaged for smaller maps.
        supervision: as `cross_entropy`.

    Raises:
        UsageError: a target of another shape, or of no real numbers.
    """
    pairs, own = _maps.valued(outputs, target, "mse")
    return _maps.combined(F.mse_loss, pairs, own, supervision)


def mean_absolute_error(outputs: Any, target: Tensor, *, supervision: str = "equal") -> Tensor:
    """Mean absolute difference of values.

    Args:
        outputs: as `mean_squared_error`.
        target: as `mean_squared_error`.
        supervision: as `cross_entropy`.

    Raises:
        UsageError: as `mean_squared_error`.
    """
    pairs, own = _maps.valued(outputs, target, "l1")
    return _maps.combined(F.l1_loss, pairs, own, supervision)


def stereo(outputs: Any, target: Tensor, *, maxdisp: int = 192) -> Tensor:
    """Smooth L1 over the pixels whose disparity is below `maxdisp`.

    Args:
        outputs: disparities (B, H, W): one map, or three from coarse to fine, weighted 0.5, 0.7 and 1.
        target: disparities in pixels, float (B, H, W).
        maxdisp: the network's.

    Raises:
        UsageError: maps of another shape or number, or a target without a pixel below `maxdisp`.
    """
    maps = _maps.tensors(outputs)
    if len(maps) not in (1, 3) or any(m.shape != target.shape for m in maps):
        said = f"expected one or three maps {tuple(target.shape)}, got {_maps.shapes(maps)}"
        raise UsageError(f"{named('loss', 'stereo')}: {said}")
    seen = target < maxdisp
    if not seen.any():
        raise UsageError(f"{named('loss', 'stereo')}: no pixel of the target has a disparity below {maxdisp}")
    weights = _STEREO_WEIGHTS[-len(maps) :]
    terms = [w * F.smooth_l1_loss(m[seen], target[seen]) for w, m in zip(weights, maps, strict=True)]
    return torch.stack(terms).sum()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "ce-dice": cross_entropy_dice,
    "bce": binary_cross_entropy,
    "bce-dice": binary_cross_entropy_dice,
    "stereo": stereo,
    "mse": mean_squared_error,
    "l1": mean_absolute_error,
}


VALUED = {"mse", "l1"}
"""Those that compare values, no classes."""


def names() -> list[str]:
    """The words `--loss` takes."""
    return list(LOSSES)


def get(
    name: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    *,
    supervision: str = "equal",
    trusted: bool = True,
    **options: Any,
) -> Loss:
    """A loss by name or path; options (`maxdisp` of `stereo`) are fixed.

    Args:
        name: one of `names()`; `monai.losses.DiceCELoss`, `torch.nn.CrossEntropyLoss` or another class by its path;
            `file.py:name` or `package.module:name`, a function of (outputs, target) or a class whose objects are.
        settings: keyword arguments of a class or function that a path names, the `--set-loss` pairs.
        supervision: how several maps count: "equal", or "nnunet".
        trusted: whether the user wrote `name`; False for what a run's files name: of paths, only losses of MONAI and
            torch are then imported.
        **options: of a named loss.

    Raises:
        UsageError: an unknown name, the nearest is given; settings of a loss that takes none; a path that leads to no
            loss, or one that does not weigh maps where that is asked for.
    """
    _maps.check_supervision(supervision)
    loss_word(name)
    if is_path(name):
        return bring(name, settings, supervision, trusted=trusted)
    if settings:
        said = f"{name} takes no settings; a loss that is named by its path does"
        raise UsageError(f"{named('loss_settings', next(iter(settings)), flag='--set-loss')}: {said}")
    if name == "stereo" and supervision != "equal":
        raise UsageError(f"{named('deep_supervision', supervision)}: stereo weighs its maps itself")
    if name != "stereo":
        options["supervision"] = supervision
    return partial(LOSSES[name], **options)


def for_task(task: str, channels: int, default: str | None = None) -> str:
    """Return the loss that follows from what data asks of a network, where none is given.

    Args:
        task: of `ranp.data.dataset.Task`, or "regression", which is reconstruction too.
        channels: the network gives.
        default: the network's own loss, or None.

    Raises:
        UsageError: no such task.

    >>> for_task("segmentation", 4, "ce-dice"), for_task("segmentation", 1, "ce-dice"), for_task("regions", 3)
    ('ce-dice', 'bce-dice', 'bce')
    """
    tasks = (*get_args(Task), "regression")
    if task not in tasks:
        raise UsageError(f"{named('task', task)}: expected {listed(tasks)}{nearest(task, tasks)}")
    if task in ("stereo", "regression"):
        return "stereo" if task == "stereo" else "mse"
    own = default if default in (*_SOFTMAX, *_SOFTMAX.values()) else "ce"
    if task == "classification":
        return for_channels("ce", channels)
    return _SOFTMAX.get(own, own) if task == "regions" else for_channels(own, channels)


def for_channels(name: str, channels: int) -> str:
    """Return the loss of the same kind that a network of so many output channels can be scored with.

    >>> for_channels("ce-dice", 1), for_channels("ce-dice", 4)
    ('bce-dice', 'ce-dice')
    """
    return _SOFTMAX.get(name, name) if channels == 1 else name


def check_channels(name: str, channels: int) -> None:
    """Refuse a loss that has no gradient for a network of so many output channels.

    Raises:
        UsageError: a loss over a softmax, and one channel.
    """
    fits = for_channels(name, channels)
    if fits != name:
        why = f"a softmax over one channel is 1 everywhere, so that the loss has no gradient; expected {fits}"
        raise UsageError(f"{named('loss', name)}: the network gives one channel: {why}")


def _labelled(outputs: Any, target: Any, name: str) -> tuple[_maps.Pairs, Tensor]:
    """Return each map of logits with labels of its size, and the network's own scalar losses."""
    maps, labels, own = _maps.labelled(outputs, target)
    fewest = min(m.shape[1] for m in maps)
    check_channels(name, fewest)
    _maps.check_labels(labels, fewest)
    return [(m, _maps.resized(labels, m)) for m in maps], own


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, ignore_index=IGNORED)


def _dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    classes = logits.shape[1]
    valid = (labels != IGNORED).unsqueeze(1)
    probability = logits.softmax(dim=1) * valid  # (B, classes, *spatial)
    truth = F.one_hot(labels.clamp(max=classes - 1), classes).movedim(-1, 1) * valid
    return _overlap_loss(probability, truth)[1:].mean()


def _overlap_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice of each channel, (channels,), from (B, channels, *spatial)."""
    axes = (0, *range(2, probability.dim()))
    overlap = (probability * truth).sum(axes)
    return 1 - (2 * overlap + _DICE_EPS) / (probability.sum(axes) + truth.sum(axes) + _DICE_EPS)


def _binary_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """The mean over what counts, (B, channels, *spatial) both."""
    seen = truth != IGNORED
    return F.binary_cross_entropy_with_logits(logits[seen], truth[seen].to(logits.dtype))
