"""The losses a network is scored with, by name: what `--loss` takes.

`ce` cross-entropy, `ce-dice` the BraTS loss, `stereo` the three-map disparity loss; thesis section 5.6.1.3 and
reference rules 3.3. `bce` and `bce-dice` are theirs for sigmoid outputs: one channel, or regions that overlap. Each is
a function of (outputs, target) and returns a scalar. Whether that is finite is for the caller to judge.

Segmentation losses take whatever a network returns: one map, a list, tuple or dict of maps (deep supervision), or the
stacked maps of MONAI's DynUNet. Every map counts alike, against labels resized to its size by nearest neighbour; a
scalar among them is a loss of the network's own (the VAE branch of SegResNetVAE) and is added. Labels may keep a
channel of their own, (B, 1, *spatial), and be whole numbers of any dtype, as MONAI's transforms give them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError, listed, named, nearest
from ranp.inputs import flatten

Loss = Callable[[Any, Tensor], Tensor]

IGNORED = 255  # the label of voxels that don't count
_DICE_EPS = 0.1  # keeps the Dice of an absent class finite
_SOFTMAX = {"ce": "bce", "ce-dice": "bce-dice"}  # a softmax over one channel is 1, whatever the weights
_STEREO_WEIGHTS = (0.5, 0.7, 1.0)  # coarse to fine


def cross_entropy(outputs: Any, target: Tensor) -> Tensor:
    """Mean cross-entropy over all voxels whose label is not 255.

    Args:
        outputs: logits (B, classes, *spatial) or (B, classes), or several of them; two classes or more.
        target: whole numbers (B, *spatial), (B, 1, *spatial) or (B,), of any dtype.

    Raises:
        UsageError: outputs that are no logits for the target, one channel, or labels beyond the classes.
    """
    maps, labels, own = _split(outputs, target, "ce")
    return torch.stack([_cross_entropy(logits, labels) for logits in maps]).mean() + own


def cross_entropy_dice(outputs: Any, target: Tensor) -> Tensor:
    """Cross-entropy plus the mean over foreground classes of 1 - soft Dice.

    That is weight 0.25 for each of BraTS' four; class 0 is the background. The published text adds the Dice
    itself (Eq. 5.21), which training would then minimise; this is what was run.

    Args:
        outputs: logits (B, classes, *spatial), or several of them.
        target: as `cross_entropy`.

    Raises:
        UsageError: as `cross_entropy`.
    """
    maps, labels, own = _split(outputs, target, "ce-dice")
    return torch.stack([_cross_entropy(m, labels) + _dice_loss(m, labels) for m in maps]).mean() + own


def binary_cross_entropy(outputs: Any, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of sigmoid outputs over all voxels whose label is not 255.

    Args:
        outputs: logits (B, channels, *spatial) or (B, channels), or several of them.
        target: of one channel labels 0 and 1, (B, *spatial), (B, 1, *spatial) or (B,); of several, which may overlap,
            as many masks of 0 and 1, (B, channels, *spatial). Of any dtype.

    Raises:
        UsageError: outputs that are no logits for the target, or labels other than 0 and 1.
    """
    pairs, own = _binary(outputs, target, "bce")
    return torch.stack([_binary_cross_entropy(*pair) for pair in pairs]).mean() + own


def binary_cross_entropy_dice(outputs: Any, target: Tensor) -> Tensor:
    """Binary cross-entropy plus the mean over channels of 1 - soft Dice.

    Args:
        outputs: as `binary_cross_entropy`.
        target: as `binary_cross_entropy`.

    Raises:
        UsageError: as `binary_cross_entropy`.
    """
    pairs, own = _binary(outputs, target, "bce-dice")
    terms = [_binary_cross_entropy(m, t) + _overlap_loss(m.sigmoid() * (t != IGNORED), t * (t != IGNORED)).mean()
             for m, t in pairs]  # fmt: skip
    return torch.stack(terms).mean() + own


def stereo(outputs: Any, target: Tensor, *, maxdisp: int = 192) -> Tensor:
    """Smooth L1 over the pixels whose disparity is below `maxdisp`.

    Args:
        outputs: disparities (B, H, W): one map, or three from coarse to fine, weighted 0.5, 0.7 and 1.
        target: disparities in pixels, float (B, H, W).
        maxdisp: the network's.

    Raises:
        UsageError: maps of another shape or number, or a target without a pixel below `maxdisp`.
    """
    maps = _tensors(outputs)
    if len(maps) not in (1, 3) or any(m.shape != target.shape for m in maps):
        raise UsageError(f"{named('loss', 'stereo')}: expected one or three maps {_shape(target)}, got {_shapes(maps)}")
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
}


def names() -> list[str]:
    """The words `--loss` takes."""
    return list(LOSSES)


def get(name: str, **options: Any) -> Loss:
    """A loss by name; options (`maxdisp` of `stereo`) are fixed.

    Raises:
        UsageError: an unknown name; the nearest is given.
    """
    if name not in LOSSES:
        raise UsageError(f"{named('loss', name)}: expected {listed(names())}{nearest(str(name), names())}")
    return partial(LOSSES[name], **options)


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


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, _resized(labels, logits), ignore_index=IGNORED)


def _dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    labels, classes = _resized(labels, logits), logits.shape[1]
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


def _resized(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels at the size of the logits, by nearest neighbour: (B, *spatial), or (B, channels, *spatial)."""
    flat = labels.dim() < logits.dim()
    if labels.shape[1 if flat else 2 :] == logits.shape[2:]:
        return labels
    drawn = (labels.unsqueeze(1) if flat else labels).to(torch.float32)
    sized = F.interpolate(drawn, size=logits.shape[2:], mode="nearest").to(labels.dtype)
    return sized.squeeze(1) if flat else sized


def _split(outputs: Any, target: Any, name: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the maps of logits, whole-numbered labels (B, *spatial) for them, and the network's own scalar losses."""
    maps, labels, own = _maps(outputs, target)
    if labels.dim() == maps[0].dim() and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if any(m.dim() != labels.dim() + 1 or len(m) != len(labels) for m in maps):
        raise _unfit(maps, target)
    check_channels(name, min(m.shape[1] for m in maps))
    _check_labels(labels, min(m.shape[1] for m in maps))
    return maps, labels, own


def _binary(outputs: Any, target: Any, name: str) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return each map of logits with masks of its shape, and the network's own scalar losses."""
    maps, labels, own = _maps(outputs, target)
    if labels.dim() == maps[0].dim() - 1:
        labels = labels.unsqueeze(1)
    if any(m.dim() != labels.dim() or m.shape[:2] != labels.shape[:2] for m in maps):
        raise _unfit(maps, target)
    wrong = (labels != IGNORED) & (labels != 0) & (labels != 1)
    if wrong.any():
        said = f"expected labels 0 and 1 for sigmoid outputs, but a label is {labels[wrong][0].item()}"
        raise UsageError(f"{named('loss', name)}: {said}")
    return [(m, _resized(labels, m)) for m in maps], own


def _maps(outputs: Any, target: Any) -> tuple[list[Tensor], Tensor, Tensor]:
    """Tell the maps of logits from the network's own scalar losses, and read the target as int64."""
    if not isinstance(target, Tensor):
        raise UsageError(f"{named('loss')}: the target is a {type(target).__name__}; expected a tensor of labels")
    labels = target.as_subclass(Tensor)  # a subclass, as MONAI's, tracks what is done to it
    tensors = _tensors(outputs)
    if len(tensors) == 1 and _stacked(tensors[0], labels):
        tensors = list(tensors[0].unbind(dim=1))  # DynUNet stacks its heads behind the batch
    maps = [t for t in tensors if t.dim() > 1]
    if not maps or not labels.dim():
        raise _unfit(tensors, target)
    if labels.is_complex() or (labels.is_floating_point() and not torch.equal(labels, labels.round())):
        kind = str(labels.dtype).removeprefix("torch.")
        raise UsageError(f"{named('loss')}: expected labels that are whole numbers, got {kind} with fractions")
    own = [t for t in tensors if t.dim() == 0]
    return maps, labels.to(torch.int64), torch.stack(own).sum() if own else maps[0].new_zeros(())


def _stacked(outputs: Tensor, labels: Tensor) -> bool:
    """Whether outputs are heads behind the batch, (B, heads, classes, *spatial), by the shape of the labels."""
    if outputs.dim() == labels.dim() + 2:  # (B, *spatial)
        return True
    own_channel = labels.dim() > 2 and labels.shape[1] == 1  # (B, 1, *spatial)
    return own_channel and outputs.dim() == labels.dim() + 1 and outputs.shape[2] > 1


def _unfit(maps: Sequence[Tensor], target: Tensor) -> UsageError:
    labels = f"{str(target.dtype).removeprefix('torch.')} labels {_shape(target)}"
    return UsageError(f"{named('loss')}: expected logits (B, classes, ...) for {labels}, got {_shapes(maps)}")


def _check_labels(labels: Tensor, classes: int) -> None:
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        value = labels[wrong][0].item()
        raise UsageError(f"{named('classes')}: the network has {classes} classes, but a label is {value}")


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors a network gave; what is None (a head that is off) is left out."""
    tensors = flatten(outputs)
    if not tensors and outputs is not None:
        raise UsageError(f"{named('loss')}: the network returned a {type(outputs).__name__}, expected tensors")
    return tensors


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(_shape, tensors)) or "nothing"
