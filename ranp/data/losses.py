"""The losses a network is scored with, by name: what `--loss` takes.

`ce` cross-entropy, `ce-dice` the BraTS loss, `stereo` the three-map disparity loss; thesis section 5.6.1.3 and
reference rules 3.3. Each is a function of (outputs, target) and returns a scalar. Whether that is finite is for the
caller to judge.

Segmentation losses take whatever a network returns: one map, a list, tuple or dict of maps (deep supervision), or the
stacked maps of MONAI's DynUNet. Every map counts alike, against labels resized to its size by nearest neighbour; a
scalar among them is a loss of the network's own (the VAE branch of SegResNetVAE) and is added.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError, nearest
from ranp.inputs import flatten

Loss = Callable[[Any, Tensor], Tensor]

IGNORED = 255  # the label of voxels that don't count
_DICE_EPS = 0.1  # keeps the Dice of an absent class finite
_STEREO_WEIGHTS = (0.5, 0.7, 1.0)  # coarse to fine


def cross_entropy(outputs: Any, target: Tensor) -> Tensor:
    """Mean cross-entropy over all voxels whose label is not 255.

    Args:
        outputs: logits (B, classes, *spatial) or (B, classes), or several of them.
        target: int64 labels (B, *spatial) or (B,).

    Raises:
        UsageError: outputs that are no logits for the target, or labels beyond the classes.
    """
    maps, own = _split(outputs, target)
    return torch.stack([_cross_entropy(logits, target) for logits in maps]).mean() + own


def cross_entropy_dice(outputs: Any, target: Tensor) -> Tensor:
    """Cross-entropy plus the mean over foreground classes of 1 - soft Dice.

    That is weight 0.25 for each of BraTS' four; class 0 is the background. The published text adds the Dice
    itself (Eq. 5.21), which training would then minimise; this is what was run.

    Args:
        outputs: logits (B, classes, *spatial), or several of them.
        target: int64 labels (B, *spatial).

    Raises:
        UsageError: as `cross_entropy`.
    """
    maps, own = _split(outputs, target)
    if any(m.shape[1] < 2 for m in maps):
        raise UsageError("--loss ce-dice: expected a background and at least one more class, the network has 1")
    return torch.stack([_cross_entropy(m, target) + _dice_loss(m, target) for m in maps]).mean() + own


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
        raise UsageError(f"--loss stereo: expected one or three maps {_shape(target)}, got {_shapes(maps)}")
    seen = target < maxdisp
    if not seen.any():
        raise UsageError(f"--loss stereo: no pixel of the target has a disparity below {maxdisp}")
    weights = _STEREO_WEIGHTS[-len(maps) :]
    terms = [w * F.smooth_l1_loss(m[seen], target[seen]) for w, m in zip(weights, maps, strict=True)]
    return torch.stack(terms).sum()


LOSSES: dict[str, Callable[..., Tensor]] = {"ce": cross_entropy, "ce-dice": cross_entropy_dice, "stereo": stereo}


def names() -> list[str]:
    """The words `--loss` takes."""
    return list(LOSSES)


def get(name: str, **options: Any) -> Loss:
    """A loss by name; options (`maxdisp` of `stereo`) are fixed.

    Raises:
        UsageError: an unknown name; the nearest is given.
    """
    if name not in LOSSES:
        raise UsageError(f"--loss {name}: expected {', '.join(names())}{nearest(name, names())}")
    return partial(LOSSES[name], **options)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, _resized(target, logits), ignore_index=IGNORED)


def _dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    labels, classes = _resized(target, logits), logits.shape[1]
    valid = (labels != IGNORED).unsqueeze(1)
    probability = logits.softmax(dim=1) * valid  # (B, classes, *spatial)
    truth = F.one_hot(labels.clamp(max=classes - 1), classes).movedim(-1, 1) * valid
    axes = (0, *range(2, logits.dim()))
    overlap = (probability * truth).sum(axes)  # (classes,)
    dice = (2 * overlap + _DICE_EPS) / (probability.sum(axes) + truth.sum(axes) + _DICE_EPS)
    return (1 - dice[1:]).mean()


def _resized(target: Tensor, logits: Tensor) -> Tensor:
    """The labels at the size of the logits, by nearest neighbour: (B, *spatial)."""
    if target.shape[1:] == logits.shape[2:]:
        return target
    labels = target.unsqueeze(1).to(torch.float32)
    return F.interpolate(labels, size=logits.shape[2:], mode="nearest").squeeze(1).to(target.dtype)


def _split(outputs: Any, target: Tensor) -> tuple[list[Tensor], Tensor]:
    """Tell the maps of logits from the network's own scalar losses, and check both against the target."""
    tensors = _tensors(outputs)
    if len(tensors) == 1 and tensors[0].dim() == target.dim() + 2:
        tensors = list(tensors[0].unbind(dim=1))  # DynUNet stacks its heads behind the batch
    maps = [t for t in tensors if t.dim() > 0]
    fits = bool(maps) and all(m.dim() == target.dim() + 1 and len(m) == len(target) for m in maps)
    if not fits or target.dtype != torch.int64:
        labels = f"{str(target.dtype).removeprefix('torch.')} labels {_shape(target)}"
        raise UsageError(f"--loss: expected logits (B, classes, ...) for {labels}, got {_shapes(tensors)}")
    _check_labels(target, min(m.shape[1] for m in maps))
    own = [t for t in tensors if t.dim() == 0]
    return maps, torch.stack(own).sum() if own else maps[0].new_zeros(())


def _check_labels(target: Tensor, classes: int) -> None:
    wrong = (target != IGNORED) & ((target < 0) | (target >= classes))
    if wrong.any():
        value = target[wrong][0].item()
        raise UsageError(f"--classes: the network has {classes} classes, but a label is {value}")


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors a network gave; what is None (a head that is off) is left out."""
    tensors = flatten(outputs)
    if not tensors and outputs is not None:
        raise UsageError(f"--loss: the network returned a {type(outputs).__name__}, expected tensors")
    return tensors


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(_shape, tensors)) or "nothing"
