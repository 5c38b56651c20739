"""Which strides the features of a network have, and what its layers do to them, read off one run.

A feature's positions are its last dimensions, as many as an image has. What a module of torch does to its stride is
known; any other op has to leave positions alone where the stride of its feature is removed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.weak import WeakTensorKeyDictionary

from ranp.errors import UnsupportedError, UsageError, named
from ranp.figures import spell
from ranp.graph.rules.op import Mode, base_name, bind
from ranp.inputs import Inputs, as_arguments, flatten

Strides = tuple[Fraction, ...]
MAX_POOLS, MEAN_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
TO_A_SIZE = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
# Beside those that torch tags as pointwise: what acts on every position by itself, or copies positions as they are.
BY_POSITION = {
    "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm",
    "alias", "clone", "contiguous", "copy", "detach", "empty_like", "expand", "full_like", "lift_fresh",
    "ones_like", "rand_like", "randn_like", "reshape", "select", "slice", "split", "split_with_sizes",
    "squeeze", "stack", "_to_copy", "unbind", "unsafe_split", "_unsafe_view", "unsqueeze", "view", "zeros_like",
}  # fmt: skip
# What acts along some dimensions, and on every position by itself where those are others.
ALONG = {"amax", "amin", "argmax", "cat", "cumsum", "max", "mean", "min", "_softmax", "_log_softmax", "sum", "var"}


@dataclass(frozen=True)
class Feature:
    """What is known of a tensor with positions: its stride, and whether removing strides leaves its values alone."""

    strides: Strides
    exact: bool = True


@dataclass(frozen=True)
class Step:
    """What a layer does, along each dimension.

    Args:
        removed: the factor by which the stride of its input is removed.
        kept: its stride from then on.
    """

    removed: tuple[int, ...]
    kept: tuple[int, ...]


class End(NamedTuple):
    """A tensor of a run, how its strides are removed, and whether its values stay."""

    tensor: Tensor
    removed: tuple[int, ...]
    exact: bool


def kernel_of(module: nn.Module, name: str, dims: int) -> tuple[int, ...]:
    """Return a setting of a layer along each dimension."""
    value = getattr(module, name)
    return (int(value),) * dims if isinstance(value, int) else tuple(map(int, value))


@dataclass
class Strided(Mode):
    """Watches a run, and notes what the layers do to strides.

    Args:
        model: a copy that may be hooked.
        wanted: the largest stride that stays, along each dimension.
        image: the sizes of the image.
    """

    model: nn.Module
    wanted: tuple[int, ...]
    image: tuple[int, ...]
    steps: dict[nn.Module, Step] = field(default_factory=dict)
    ends: list[End] = field(default_factory=list)
    strides: set[Strides] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.features: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.path, self.inside = [""], 0
        for path, module in self.model.named_modules():
            known = isinstance(module, _ConvNd) or type(module) in (*MAX_POOLS, *MEAN_POOLS, *PADS, *TO_A_SIZE)
            module.register_forward_pre_hook(self._enter(path, known))
            module.register_forward_hook(self._leave(known))

    def run(self, inputs: Inputs) -> list[Tensor]:
        """Run the network, and return its outputs."""
        args, kwargs = as_arguments(inputs)
        dims = len(self.image)
        for given in flatten((args, kwargs)):
            if given.ndim == dims + 2:
                self.features[given] = Feature((Fraction(1),) * dims)
        with torch.no_grad(), self:
            outputs = flatten(self.model.eval()(*args, **kwargs))
        for output in outputs:
            self._end(output)
        return outputs

    def removed(self, strides: Strides) -> tuple[int, ...]:
        """Return the factor by which a stride is removed along each dimension."""
        return tuple(max(int(t / most), 1) for t, most in zip(strides, self.wanted, strict=True))

    def _end(self, tensor: Tensor) -> None:
        """Note a tensor that can be compared with the dilated network's: an output, or a feature that is resized."""
        feature = self.features.get(tensor)
        removed = () if feature is None else self.removed(feature.strides)
        self.ends.append(End(tensor, removed, feature is None or feature.exact))

    # Modules whose strides are known

    def _enter(self, path: str, known: bool) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any) -> None:
            self.path.append(path)
            self.inside += known

        return hook

    def _leave(self, known: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.inside -= known
            if known and not self.inside and args and isinstance(args[0], Tensor):
                self._pass(module, args[0], flatten(output))
            self.path.pop()

        return hook

    def _pass(self, module: nn.Module, given: Tensor, outputs: list[Tensor]) -> None:
        """Say which stride comes out of a module."""
        dims = len(self.image)
        feature = self._feature(given)
        if feature is None:
            return
        step = (1,) * dims
        removed = self.removed(feature.strides)
        if isinstance(module, _ConvTransposeNd):
            if max(removed) > 1:
                raise self._refused("a transposed convolution", "enlarges")
            strides = tuple(t / s for t, s in zip(feature.strides, module.stride, strict=True))
        elif type(module) in TO_A_SIZE:
            if max(removed) > 1:
                self._note(module, Step(removed, step))
            return
        else:
            if type(module) not in PADS:
                step = kernel_of(module, "stride", dims)
            strides = tuple(t * s for t, s in zip(feature.strides, step, strict=True))
            self._note(module, Step(removed, self._kept(feature.strides, strides)))
        self.strides.add(strides)
        for output in outputs:
            self.features[output] = Feature(strides, feature.exact)

    def _kept(self, before: Strides, after: Strides) -> tuple[int, ...]:
        """Return the stride of a layer that stays."""
        most = [Fraction(each) for each in self.wanted]
        kept = [min(b, m) / min(a, m) for a, b, m in zip(before, after, most, strict=True)]
        over = [b / m for b, m in zip(after, most, strict=True) if b > m]
        if any(each.denominator > 1 for each in (*kept, *over)):
            raise UsageError(
                f"{named('output_stride', spell(self.wanted))}: the stride at {self._where} goes from "
                f"{spell(map(int, before))} to {spell(map(int, after))}; expected a number that divides the one and is "
                "divided by the other, such as either"
            )
        return tuple(map(int, kept))

    def _note(self, module: nn.Module, step: Step) -> None:
        """Note what becomes of a layer."""
        if self.steps.setdefault(module, step) != step:
            raise UnsupportedError(
                f"{self._where}: is called on features of several strides, and has one stride and dilation for all"
            )

    # Ops outside of them

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an op, and say what stride comes out of it."""
        kwargs = kwargs or {}
        given = [each for each in flatten((args, kwargs)) if self.features.get(each) is not None]
        before = [self.features[each] for each in given]
        if "upsample_" in base_name(func) and not self.inside:
            self._end(args[0])
        out = func(*args, **kwargs)
        if given and not self.inside:
            self._follow(func, bind(func, args, kwargs), given, before, flatten(out))
        return out

    def _follow(
        self, func: Any, bound: dict[str, Any], given: list[Tensor], before: list[Feature], results: list[Tensor]
    ) -> None:
        """Say what stride comes out of an op."""
        name, dims = base_name(func), len(self.image)
        sizes, strides = given[0].shape[-dims:], tuple(map(max, zip(*(each.strides for each in before), strict=True)))
        apart = any(max(self.removed(each.strides)) > 1 for each in before)
        exact, resized = all(each.exact for each in before), "upsample_" in name
        if apart and resized and any(value for key, value in bound.items() if key.startswith("scale")):
            raise self._refused(name, "enlarges by a factor")
        if apart and not resized and not name.startswith("new_"):
            if len({each.strides for each in before}) > 1:
                raise self._refused(name, "joins features of other strides with")
            if not self._by_position(name, func, bound, results[0], sizes):
                raise self._refused(name)
        for result in results:
            if result.ndim > dims and result.shape[-dims:] == sizes and not resized:
                self.features[result] = Feature(strides, exact)
            elif result.ndim == dims + 2 and (resized or not apart):
                after = self._guess(result) if resized else self._scaled(strides, sizes, result.shape[-dims:])
                if not resized and max(self.removed(after)) > 1:
                    raise self._refused(f"{name}, which is called as a function,", "reduces the resolution of")
                self.features[result] = Feature(after, exact and not apart)

    def _by_position(self, name: str, func: Any, bound: dict[str, Any], result: Tensor, sizes: Sequence[int]) -> bool:
        """Whether an op acts on every position by itself, the same way."""
        dims = len(self.image)
        if result.shape[-dims:] != sizes:
            return False
        if func._schema.is_mutable and result.untyped_storage().nbytes() > result.numel() * result.element_size():
            return False  # written in part
        given = flatten(bound)
        if name in ALONG:
            told = bound.get("dim")
            along: list[int] = [told] if isinstance(told, int) else list(told or ())
            return bool(along) and all(dim % given[0].ndim < given[0].ndim - dims for dim in along)
        others = [each for each in given if each.ndim and self.features.get(each) is None]
        if "batch_norm" not in name and any(max(each.shape[-dims:]) > 1 for each in others):
            return False  # a tensor that knows positions
        return name in BY_POSITION or torch.Tag.pointwise in func.tags

    def _guess(self, tensor: Tensor) -> Strides:
        """Return the stride of a feature by its size."""
        sizes = tensor.shape[-len(self.image) :]
        return tuple(
            Fraction(round(whole / size)) if size <= whole else Fraction(1, round(size / whole))
            for whole, size in zip(self.image, sizes, strict=True)
        )

    def _scaled(self, strides: Strides, before: Sequence[int], after: Sequence[int]) -> Strides:
        return tuple(
            t * round(b / a) if a <= b else t / round(a / b) for t, b, a in zip(strides, before, after, strict=True)
        )

    def _feature(self, tensor: Tensor) -> Feature | None:
        """Return what is known of the input of a layer; what an op lost is told by its size."""
        known: Feature | None = self.features.get(tensor)
        if known is None and tensor.ndim == len(self.image) + 2 and max(tensor.shape[2:]) > 1:
            return Feature(self._guess(tensor))
        return known

    @property
    def _where(self) -> str:
        return self.path[-1] or "the top"

    def _refused(self, what: str, does: str = "looks at more than one position of") -> UnsupportedError:
        return UnsupportedError(
            f"{what} at {self._where}: {does} a feature whose stride goes; give a larger {named('output_stride')}, or "
            "dilate the part of the network before it"
        )
