"""What a loss is given, read: the maps a network returned, the target at the size of each, and how much each counts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError, listed, named, nearest
from ranp.inputs import flatten

IGNORED = 255  # the label of voxels that don't count
SUPERVISIONS = ("equal", "nnunet")

Pairs = list[tuple[Tensor, Tensor]]


def labelled(outputs: Any, target: Any) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the maps of logits, whole-numbered labels (B, *spatial) for them, and the network's own scalar losses.

    Raises:
        UsageError: outputs that are no logits for the target, or labels beyond the classes.
    """
    maps, labels, own = _maps(outputs, whole(target))
    if labels.dim() == maps[0].dim() and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if any(m.dim() != labels.dim() + 1 or len(m) != len(labels) for m in maps):
        raise _unfit(maps, target)
    return maps, labels, own


def masked(outputs: Any, target: Any, name: str) -> tuple[Pairs, Tensor]:
    """Return each map of logits with masks of its shape, and the network's own scalar losses.

    Raises:
        UsageError: outputs that are no logits for the target, or labels other than 0 and 1.
    """
    maps, labels, own = _maps(outputs, whole(target))
    if labels.dim() == maps[0].dim() - 1:
        labels = labels.unsqueeze(1)
    if any(m.dim() != labels.dim() or m.shape[:2] != labels.shape[:2] for m in maps):
        raise _unfit(maps, target)
    wrong = (labels != IGNORED) & (labels != 0) & (labels != 1)
    if wrong.any():
        said = f"expected labels 0 and 1 for sigmoid outputs, but a label is {labels[wrong][0].item()}"
        raise UsageError(f"{named('loss', name)}: {said}")
    return [(m, resized(labels, m)) for m in maps], own


def valued(outputs: Any, target: Any, name: str) -> tuple[Pairs, Tensor]:
    """Return each map with the values it should have, of its shape and dtype, and the network's own scalar losses.

    A target without the one channel of a map gets it; for a smaller map the target is averaged over its voxels.

    Raises:
        UsageError: a target of another shape, or one that holds no real numbers.
    """
    maps, target, own = _maps(outputs, plain(target), least=1)
    if target.is_complex() or target.dtype == torch.bool:
        raise UsageError(f"{named('loss', name)}: expected a target of real numbers, got {_kind(target)}")
    return [(m, values_like(m, target, name)) for m in maps], own


def values_like(like: Tensor, target: Tensor, name: str) -> Tensor:
    """Return a target at the shape and in the dtype of a map, (B, C, *spatial).

    Raises:
        UsageError: it has another batch, other channels or other dimensions.
    """
    values = target.unsqueeze(1) if target.dim() == like.dim() - 1 and like.shape[1] == 1 else target
    if values.dim() != like.dim() or values.shape[:2] != like.shape[:2]:
        said = f"expected a target of the output's shape {_shape(like)}, got {_kind(target)} {_shape(target)}"
        raise UsageError(f"{named('loss', name)}: {said}")
    values = values.to(like.dtype)
    return values if values.shape == like.shape else F.interpolate(values, size=like.shape[2:], mode="area")


def combined(term: Callable[[Tensor, Tensor], Tensor], pairs: Pairs, own: Tensor, supervision: str) -> Tensor:
    """Return the weighted sum of a term over the maps, and what the network adds itself.

    Args:
        term: of a map and its target, a scalar.
        pairs: of them.
        own: the sum of the network's own losses.
        supervision: "equal", or "nnunet": 1, 1/2, 1/4, ... from the largest map to the smallest, which has 0, over
            their sum (Isensee et al. 2021). Maps of one size keep their order; one map alone counts whole.
    """
    if supervision == "equal" or len(pairs) == 1:
        return torch.stack([term(*pair) for pair in pairs]).mean() + own
    by_size = sorted(pairs, key=lambda pair: -pair[0].shape[2:].numel())[:-1]  # a head without weight is not computed
    weights = [0.5**place / (2 - 2 * 0.5 ** len(by_size)) for place in range(len(by_size))]
    return sum((w * term(*pair) for w, pair in zip(weights, by_size, strict=True)), own)


def check_supervision(supervision: str) -> None:
    """Refuse a word that names no weights.

    Raises:
        UsageError: naming `deep_supervision`.
    """
    if supervision not in SUPERVISIONS:
        expected = f"expected {listed(SUPERVISIONS)}{nearest(str(supervision), SUPERVISIONS)}"
        raise UsageError(f"{named('deep_supervision', supervision)}: {expected}")


def resized(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels at the size of the logits, by nearest neighbour: (B, *spatial), or (B, channels, *spatial)."""
    flat = labels.dim() < logits.dim()
    if labels.shape[1 if flat else 2 :] == logits.shape[2:]:
        return labels
    drawn = (labels.unsqueeze(1) if flat else labels).to(torch.float32)
    sized = F.interpolate(drawn, size=logits.shape[2:], mode="nearest").to(labels.dtype)
    return sized.squeeze(1) if flat else sized


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels beyond the classes.

    Raises:
        UsageError: naming `classes`.
    """
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        value = labels[wrong][0].item()
        raise UsageError(f"{named('classes')}: the network has {classes} classes, but a label is {value}")


def plain(target: Any) -> Tensor:
    """Return a target as a plain tensor.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(target, Tensor):
        raise UsageError(f"{named('loss')}: the target is a {type(target).__name__}; expected a tensor of labels")
    return target.as_subclass(Tensor)  # a subclass, as MONAI's, tracks what is done to it


def whole(target: Any) -> Tensor:
    """Return labels as int64.

    Raises:
        UsageError: they are no tensor, or no whole numbers.
    """
    labels = plain(target)
    if labels.is_complex() or (labels.is_floating_point() and not torch.equal(labels, labels.round())):
        said = f"expected labels that are whole numbers, got {_kind(labels)} with fractions"
        raise UsageError(f"{named('loss')}: {said}")
    return labels.to(torch.int64)


def split(outputs: Any, target: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the maps among a network's outputs, and the sum of its own scalar losses.

    Raises:
        UsageError: there are no maps.
    """
    maps, _, own = _maps(outputs, target, least=1)
    return maps, own


def tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors a network gave; what is None (a head that is off) is left out.

    Raises:
        UsageError: there are none.
    """
    given = flatten(outputs)
    if not given and outputs is not None:
        raise UsageError(f"{named('loss')}: the network returned a {type(outputs).__name__}, expected tensors")
    return given


def shapes(given: Sequence[Tensor]) -> str:
    """Shapes as messages list them."""
    return ", ".join(map(_shape, given)) or "nothing"


def _maps(outputs: Any, target: Tensor, least: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    """Tell the maps, of so many dimensions at least, from the network's own scalar losses."""
    given = tensors(outputs)
    if len(given) == 1 and _stacked(given[0], target):
        given = list(given[0].unbind(dim=1))  # DynUNet stacks its heads behind the batch
    maps = [t for t in given if t.dim() >= least]
    if not maps or not target.dim():
        raise _unfit(given, target)
    own = [t for t in given if t.dim() == 0]
    return maps, target, torch.stack(own).sum() if own else maps[0].new_zeros(())


def _stacked(outputs: Tensor, labels: Tensor) -> bool:
    """Whether outputs are heads behind the batch, (B, heads, classes, *spatial), by the shape of the labels."""
    if outputs.dim() == labels.dim() + 2:  # (B, *spatial)
        return True
    own_channel = labels.dim() > 2 and labels.shape[1] == 1  # (B, 1, *spatial)
    alike = outputs.dim() == 6 and outputs.shape[2:] == labels.shape[1:]  # values (B, C, D, H, W)
    return outputs.dim() == labels.dim() + 1 and (alike or (own_channel and outputs.shape[2] > 1))


def _unfit(maps: Sequence[Tensor], target: Tensor) -> UsageError:
    said = f"expected logits (B, classes, ...) for {_kind(target)} labels {_shape(target)}, got {shapes(maps)}"
    return UsageError(f"{named('loss')}: {said}")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
