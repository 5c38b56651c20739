"""Losses by their path: classes of MONAI and torch, which get the target in the form they take, and the user's own.

An own loss is given what the network returned and the target as the data has it. A class of MONAI or torch is given one
map at a time with the target for it: labels as (B, 1, *spatial) for MONAI, (B, *spatial) for what takes classes by
number, and values or masks of the map's shape for all others. What would mislead a class silently is refused: labels it
can't read, scores it takes for probabilities, voxels to be ignored that it counts.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ranp.data import _maps
from ranp.errors import UsageError, check_type, named, setting, told
from ranp.models.settings import check_settings
from ranp.models.spec import import_named

_TRUSTED = ("monai.losses", "torch.nn")
_FETCHING = ("PerceptualLoss",)  # its constructor downloads a network
_BY_NUMBER = ("CrossEntropyLoss", "NLLLoss", "NLLLoss2d", "MultiMarginLoss", "NACLLoss")  # take labels (B, *spatial)
_MONAI_LABELS = ("GeneralizedWassersteinDiceLoss",)  # take labels (B, 1, *spatial) without an option that says so
_TENSORS = ("weight", "pos_weight", "dist_matrix")
_FLAG = "--set-loss"


def bring(path: str, settings: Mapping[str, Any], supervision: str, *, trusted: bool) -> Callable[[Any, Any], Tensor]:
    """Return the loss a path leads to.

    Args:
        path: `package.module.Class`, `package.module:name` or `file.py:name`.
        settings: keyword arguments of the class or function.
        supervision: how several maps count; an own loss weighs them itself.
        trusted: whether the user wrote the path; if not, only losses of MONAI and torch are imported.

    Raises:
        UsageError: nothing of that name, no loss, wrong settings, or a path that is not trusted.
    """
    spec = path if ":" in path else ":".join(path.rsplit(".", 1))
    where, _, name = spec.rpartition(":")
    if path.endswith(".py"):
        raise UsageError(f"{named('loss', path)}: write {path}:function for a function or class in that file")
    loss_of_theirs = where in _TRUSTED and name.isidentifier() and name.endswith("Loss") and name not in _FETCHING
    if not trusted and not loss_of_theirs:
        said = "a run's files never make ranp import this loss by themselves; repeat it with"
        raise UsageError(f"{path}: {said} {named('loss', path)}")
    thing: Any = import_named(spec, named("loss", path))
    expected = "a function of (outputs, target), or a class whose objects are one"
    check_type("loss", thing, callable(thing), f"{expected}, at {path}")
    if not isinstance(thing, type):
        _check_own(path, supervision)
        check_settings(partial(thing, None, None), settings, path, _FLAG)  # behind outputs and target
        return partial(thing, **settings) if settings else thing
    check_settings(thing, settings, path, _FLAG)
    made = _build(thing, settings, path)
    if isinstance(made, nn.Module) and thing.__module__.partition(".")[0] in ("monai", "torch"):
        return _OfLibrary(path, made, settings, supervision)
    _check_own(path, supervision)
    check_type("loss", made, callable(made), f"{expected}, at {path}")
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _OfLibrary:
    """A loss class of MONAI or torch, given each map with the target in the form it takes."""

    path: str
    module: nn.Module
    settings: Mapping[str, Any]
    supervision: str

    def __call__(self, outputs: Any, target: Any) -> Tensor:
        target = _maps.plain(target)
        maps, own = _maps.split(outputs, target)
        pairs = [(m, self._fitted(m, target)) for m in maps]
        self.module.to(device=maps[0].device, dtype=maps[0].dtype)  # weights of classes that it holds
        return _maps.combined(self._term, pairs, own, self.supervision)

    def _term(self, m: Tensor, target: Tensor) -> Tensor:
        value = self.module(m, target)
        if value.numel() != 1:
            hint = f"; {setting('reduction', 'mean', _FLAG)} averages" if self._effective("reduction") else ""
            raise UsageError(f"{self._said}: gives values of shape {tuple(value.shape)}; expected a scalar{hint}")
        return value.reshape(())  # type: ignore[no-any-return]

    def _fitted(self, m: Tensor, target: Tensor) -> Tensor:
        """Return the target for a map."""
        name, monai = type(self.module).__name__, type(self.module).__module__.startswith("monai")
        channels = m.shape[1] if m.dim() > 1 else 1
        if name == "BCELoss" or None not in (self._effective("sigmoid"), self._effective("softmax")):
            self._check_probabilities(m)
        if channels == 1 and name in _BY_NUMBER:
            why = "a softmax over one channel is 1 everywhere, so that the loss has no gradient"
            raise UsageError(f"{self._said}: the network gives one channel: {why}; expected bce")
        labels = _labels_for(m, target)
        self._check_ignored(target if labels is None else labels)
        if labels is None:
            return _maps.values_like(m, target, self.path)
        _maps.check_labels(labels, channels)
        labels = _maps.resized(labels, m)  # (B, *spatial)
        if name in _BY_NUMBER:
            return labels
        if monai and (self._effective("to_onehot_y") or name in _MONAI_LABELS):
            return labels.unsqueeze(1)
        if self._effective("to_onehot_y") is not None:
            said = f"the target holds labels; {setting('to_onehot_y', True, _FLAG)} makes masks of them"
        else:
            said = f"takes a target of the output's shape {tuple(m.shape)}, and this one holds labels"
        raise UsageError(f"{self._said}: {said}")

    def _check_probabilities(self, m: Tensor) -> None:
        """Refuse scores that nothing makes probabilities of, where the class takes them for such."""
        softmax, sigmoid = (setting(word, True, _FLAG) for word in ("softmax", "sigmoid"))
        if self._effective("softmax") and m.dim() > 1 and m.shape[1] == 1:
            said = f"a softmax over one channel is 1 everywhere; {sigmoid} fits the one channel of the network"
            raise UsageError(f"{self._said}: {said}")
        if not any(self._effective(word) for word in ("sigmoid", "softmax", "other_act")):
            low, high = (bound.item() for bound in m.detach().aminmax())
            if low < 0 or high > 1:
                ways = f"{softmax} or {sigmoid} makes them such"
                if self._effective("softmax") is None:
                    ways = "torch.nn.BCEWithLogitsLoss takes scores"
                said = f"outputs from {low:.3g} to {high:.3g} are no probabilities; {ways}"
                raise UsageError(f"{self._said}: {said}")

    def _check_ignored(self, target: Tensor) -> None:
        """Refuse labels to be ignored where the class would count them."""
        left_out = self._effective("ignore_index")
        if left_out == _maps.IGNORED or target.is_floating_point() or not (target == _maps.IGNORED).any():
            return
        said = f"counts every voxel, and the labels hold {_maps.IGNORED}, which is ignored"
        if "ignore_index" in inspect.signature(type(self.module)).parameters:
            raise UsageError(f"{self._said}: {said}; {setting('ignore_index', _maps.IGNORED, _FLAG)} leaves it out")
        raise UsageError(f"{self._said}: {said}; ce and ce-dice leave it out")

    def _effective(self, name: str) -> Any:
        """Return an argument as it is given or else by default; None where the class takes none of that name."""
        if name in self.settings:
            return self.settings[name]
        known = inspect.signature(type(self.module)).parameters
        return known[name].default if name in known else None

    @property
    def _said(self) -> str:
        return named("loss", self.path)


def _labels_for(m: Tensor, target: Tensor) -> Tensor | None:
    """Return a target that holds a class for each voxel or sample of a map as int64 (B, *spatial), else None."""
    if m.dim() < 2 or m.shape[1] == 1:
        return None
    flat = target.squeeze(1) if target.dim() == m.dim() and target.shape[1] == 1 else target
    if flat.dim() != m.dim() - 1 or len(flat) != len(m) or flat.is_complex():
        return None
    return _maps.whole(flat) if not flat.is_floating_point() or torch.equal(flat, flat.round()) else None


def _build(kind: type, settings: Mapping[str, Any], path: str) -> Any:
    """Build a loss class; lists of numbers stand for the tensors that those of MONAI and torch take."""
    library = kind.__module__.partition(".")[0] in ("monai", "torch")
    arguments = dict(settings)
    try:
        for key in {*_TENSORS} & {*arguments} if library else ():
            if isinstance(arguments[key], list):
                arguments[key] = torch.tensor(arguments[key], dtype=torch.float32)
        return kind(**arguments)
    except (Exception, SystemExit) as error:  # whatever a constructor raises is about what the user gave it
        given = "".join(f" {setting(key, value, _FLAG)}" for key, value in settings.items())
        raise UsageError(f"{named('loss', path)}{given}: {told(error)}") from error


def _check_own(path: str, supervision: str) -> None:
    if supervision != "equal":
        said = f"{path} is given all outputs at once and weighs them itself"
        raise UsageError(f"{named('deep_supervision', supervision)}: {said}")
