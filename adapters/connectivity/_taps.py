"""Where an encoder is tapped: its last feature at each size, found by running it, on any network that gives maps.

A network is a tree of modules, and so is a run of it. Walking down from the whole, a module is one step of the encoder
where what runs in it goes at most one size down, and then counts by what it puts out: a residual block that halves the
size begins with a convolution at the old one, which is no feature of the stage before. A module in which there are
several sizes is walked into. What comes after the coarsest feature (a decoder, a classifier) is not run, and not kept.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import log2, prod
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from ranp.adapters.upsampling.watching import Call, Feature, Watched, watch
from ranp.errors import UsageError, nearest, saying
from ranp.inputs import flatten, map_tensors
from ranp.modules import on_meta

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Tap:
    """A feature of an encoder.

    Args:
        name: the path of the module that puts it out, or [place] among the maps that the encoder returns.
        channels: of it.
        stride: pixels of the image to one of the feature, one number per dimension.
    """

    name: str
    channels: int
    stride: Sizes

    @property
    def dims(self) -> int:
        """Spatial dimensions."""
        return len(self.stride)

    def __str__(self) -> str:
        """Return the name and the stride: layer1/4, or down/1x2x2."""
        return f"{self.name}/{spelled(self.stride)}"


def spelled(stride: Sizes) -> str:
    """Return a stride in short.

    >>> spelled((4, 4)), spelled((1, 2, 2))
    ('4', '1x2x2')
    """
    return str(stride[0]) if len(set(stride)) == 1 else "x".join(map(str, stride))


def find_taps(encoder: nn.Module, example: Tensor, at: Sequence[str] | None = None) -> tuple[Tap, ...]:
    """Find the features of an encoder by running a copy of it; the deepest comes first.

    Where the encoder returns several maps, from fine to coarse, those are its features (as with timm's
    `features_only=True`, or MONAI's encoders); else the last feature at each size on the way down.

    Args:
        encoder: a network of one image; in evaluation mode, on shapes alone where it runs so.
        example: an image (B, C, *spatial), large enough for the deepest feature to be more than a single pixel.
        at: paths of the modules whose outputs are taken instead; those at equal strides are allowed.

    Raises:
        UsageError: the encoder does not run, there is no such module, it gives no map, or runs after a coarser one;
            all features have one stride.
    """
    taps = taps_of(encoder, example, at)
    if len({tap.stride for tap in taps}) < 2:
        seen = ", ".join(map(str, taps)) or "no map at all"
        raise UsageError(f"taps: {seen}; expected features of an encoder at two strides or more; name modules: at=")
    return taps


def taps_of(encoder: nn.Module, example: Tensor, at: Sequence[str] | None = None) -> tuple[Tap, ...]:
    """Return features as `find_taps` does, be they of one stride."""
    with saying(UsageError, "encoder: does not run on the example"):
        watched = watch(encoder, example)
        maps = _maps_of(encoder, example) if at is None else ()
    image = tuple(example.shape[2:])
    if maps:
        shapes = {f"[{place}]": shape for place, shape in maps}
    elif at is None:
        shapes = _on_the_way_down(watched, image)
    else:
        shapes = {path: _shape_at(path, watched, encoder, len(image)) for path in at}
        order = {path: watched.of(path)[-1].ended for path in shapes}
        shapes = {path: shapes[path] for path in sorted(shapes, key=lambda path: order[path])}
    taps = tuple(Tap(name, shape[1], stride_of(image, shape[2:])) for name, shape in shapes.items())
    for finer, coarser in pairwise(taps):
        if any(a > b for a, b in zip(finer.stride, coarser.stride, strict=True)):
            raise UsageError(f"taps: {finer} runs before {coarser}; expected features that only get coarser")
    return taps[::-1]


def stride_of(image: Sizes, feature: Sizes) -> Sizes:
    """Return the stride between two sizes: that by which one becomes the other, rounded up or else down.

    Several strides may do that; a power of two is taken, else the least. Where none does, as after convolutions without
    padding, it is the power of two that is nearest.

    >>> stride_of((65, 112, 30, 64), (9, 4, 10, 14))
    (8, 32, 3, 4)
    """

    def along(fine: int, coarse: int) -> int:
        up = [stride for stride in range(1, fine + 1) if -(-fine // stride) == coarse]
        fitting = up or [stride for stride in range(1, fine + 1) if fine // stride == coarse]
        nearest_power = 2 ** max(0, round(log2(fine / coarse)))
        return next((stride for stride in fitting if stride & (stride - 1) == 0), (*fitting, nearest_power)[0])

    return tuple(along(fine, coarse) for fine, coarse in zip(image, feature, strict=True))


class Tapped(nn.Module):
    """An encoder, on a copy of which hooks keep the features that are tapped; what runs after the last is left out.

    Args:
        encoder: any network of one image; itself untouched.
        taps: as `find_taps` returned them.
        example: an image, to try that the encoder still runs without what comes after the last tap.
        levels: places of the taps that are read; all by default.

    Raises:
        UsageError: there is no such module.
    """

    def __init__(
        self, encoder: nn.Module, taps: Sequence[Tap], example: Tensor, levels: Iterable[int] | None = None
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.levels = sorted(range(len(taps)) if levels is None else levels)
        names = [taps[level].name for level in self.levels]
        self.places = [int(name[1:-1]) for name in names if name.startswith("[")]
        self.features: list[Feature] = []
        self.end: _End | None = None
        if not self.places:
            self._hook_up(names)
            self._leave_out(example)

    def _hook_up(self, names: Sequence[str]) -> None:
        modules = dict(self.encoder.named_modules())
        for name in names:
            if name not in modules:
                raise UsageError(f"taps: {name!r}: no such module in the encoder{nearest(name, modules)}")
            self.features.append(Feature(name, None))
            modules[name].register_forward_hook(self.features[-1].keep_output, prepend=True)

    def _leave_out(self, example: Tensor) -> None:
        """End the forward behind the deepest tap, and take out the modules that never run then."""
        deepest = self.features[0].name
        watched = watch(self, example)
        last = watched.of(f"encoder.{deepest}")[-1]
        if all(call.began <= last.ended for call in watched.calls):
            return
        ran = {call.path.removeprefix("encoder.") for call in watched.calls if call.began <= last.ended}
        smaller = copy.deepcopy(self)
        if smaller.end is not None:
            _take_off_(smaller.encoder, lambda hook: hook is smaller.end)
        smaller.end = _End(smaller.features[0])
        smaller.encoder.get_submodule(deepest).register_forward_hook(smaller.end, prepend=True)
        for path, _ in list(smaller.encoder.named_modules()):
            if path and path not in ran and _there(smaller.encoder, path) and not any(_is_in(one, path) for one in ran):
                smaller.encoder.set_submodule(path, nn.Identity())
        try:
            on_meta(smaller)(torch.empty_like(example, device="meta"))
        except Exception:  # the forward reads a module that does not run, or values: all of the encoder stays
            return
        self.encoder, self.features, self.end = smaller.encoder, smaller.features, smaller.end

    def narrowed(self, levels: Iterable[int], example: Tensor) -> "Tapped":
        """Return a copy for some of the features; what comes after the deepest of them is left out.

        Args:
            levels: places of their taps.
            example: an image.
        """
        narrow, wanted = copy.deepcopy(self), set(levels)
        kept = [place for place, level in enumerate(self.levels) if level in wanted]
        narrow.levels = [self.levels[place] for place in kept]
        if self.places:
            narrow.places = [self.places[place] for place in kept]
            return narrow
        unread = [feature for place, feature in enumerate(narrow.features) if place not in kept]
        narrow.features = [narrow.features[place] for place in kept]
        _take_off_(narrow.encoder, lambda hook: getattr(hook, "__self__", None) in unread)
        narrow._leave_out(example)
        return narrow

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the features of an image (B, C, *spatial), by the places of their taps."""
        if self.places:
            maps = flatten(self.encoder(image))
            return {level: maps[place] for level, place in zip(self.levels, self.places, strict=True)}
        with _modules_closed():
            try:
                self.encoder(image)
            except _Ended as ended:  # of an encoder around this one, where it is not of this
                if ended.end is not self.end:
                    raise
        return {level: feature.take() for level, feature in zip(self.levels, self.features, strict=True)}


@contextmanager
def _modules_closed() -> Iterator[None]:
    """Tell torch.export, which counts the modules that are open, that those an ended forward was in are not."""
    stack = getattr(getattr(get_proxy_mode(), "tracer", None), "module_stack", {})
    depth = len(stack)
    yield
    while len(stack) > depth:
        stack.popitem()


def _take_off_(encoder: nn.Module, which: Callable[[Any], bool]) -> None:
    """Take hooks off the modules of an encoder."""
    for module in encoder.modules():
        for key, hook in list(module._forward_hooks.items()):
            if which(hook):
                del module._forward_hooks[key]


class _Ended(Exception):
    """The last feature is there; what the encoder would do with it is of no use."""

    def __init__(self, end: "_End") -> None:
        super().__init__()
        self.end = end


class _End:
    """A hook that keeps the deepest feature and ends the forward there; a copy of the encoder has one of its own.

    It comes before other hooks, which may be those of an encoder that was tapped inside of this one.
    """

    def __init__(self, feature: Feature) -> None:
        self.feature = feature

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.feature.keep_output(module, inputs, output)
        raise _Ended(self)


def _there(model: nn.Module, path: str) -> bool:
    """Whether a path still leads to a module; one above it may have been taken out."""
    try:
        return not isinstance(model.get_submodule(path), nn.Identity)
    except AttributeError:
        return False


def _is_in(path: str, other: str) -> bool:
    return path.startswith(f"{other}.")


def _maps_of(encoder: nn.Module, example: Tensor) -> tuple[tuple[int, Sizes], ...]:
    """Return place and shape of each map that an encoder returns, if they are several that get coarser."""
    try:
        given = on_meta(encoder)(torch.empty_like(example, device="meta"))
    except Exception:  # it reads values while it runs, and is run for real
        with torch.no_grad():
            given = copy.deepcopy(encoder).eval()(map_tensors(example, torch.zeros_like))
    if isinstance(given, Tensor):
        return ()
    shapes = [(place, tuple(each.shape)) for place, each in enumerate(flatten(given))]
    maps = tuple((place, shape) for place, shape in shapes if len(shape) == example.ndim and prod(shape[2:]) > 1)
    sizes = [prod(shape[2:]) for _, shape in maps]
    coarser = all(fine >= coarse for fine, coarse in pairwise(sizes))
    return maps if coarser and len(set(sizes)) > 1 else ()


def _on_the_way_down(watched: Watched, image: Sizes) -> dict[str, Sizes]:
    """Return name and shape of the last feature at each size, before the first that is coarser; the finest first.

    At the coarsest size it is the last of those with the most channels: after it a decoder begins, or a classifier.
    """
    steps = list(_steps(watched.calls[0], watched, image))
    coarsest = min((shape[2:] for _, shape in steps), key=prod, default=image)
    last: dict[Sizes, tuple[str, Sizes]] = {}
    least = image
    for path, shape in steps:
        size = shape[2:]
        if any(now > before for now, before in zip(size, least, strict=True)):
            if least == coarsest:
                break  # the way up
            continue
        stride = stride_of(image, size)
        if size == coarsest and stride in last and shape[1] < last[stride][1][1]:
            continue
        least = size
        last[stride] = (path, shape)
    return dict(last.values())


def _steps(call: Call, watched: Watched, image: Sizes) -> Iterator[tuple[str, Sizes]]:
    """Yield path and shape of what each step of a run puts out; a step goes down by one size at most.

    Of a module that is called again only the last call counts, as what it put out before is gone when it is looked at.
    """
    inner = [each for each in watched.calls if call.began < each.began and each.ended < call.ended]
    children = [each for each in inner if not any(o.began < each.began and each.ended < o.ended for o in inner)]
    given = [shape[2:] for shape in call.inputs if _is_map(shape, image)]
    sizes = {shape[2:] for shape in (each.output for each in inner) if _is_map(shape, image)}
    begins = max(given, key=prod, default=image)
    passed = {size for size in sizes if prod(size) < prod(begins)}
    shape = call.output if _is_map(call.output, image) and call is watched.of(call.path)[-1] else None
    if call.path and shape and (not children or (len(passed) <= 1 and all(prod(s) >= prod(shape[2:]) for s in sizes))):
        yield call.path, shape
    else:
        for child in children:
            yield from _steps(child, watched, image)


def _is_map(shape: Sizes | None, image: Sizes) -> TypeGuard[Sizes]:
    """Whether a shape is that of a feature map: as many dimensions as the image, and not pooled to a single pixel."""
    return shape is not None and len(shape) == len(image) + 2 and prod(shape[2:]) > 1


def _shape_at(path: str, watched: Watched, encoder: nn.Module, dims: int) -> Sizes:
    """Return the shape of what a named module puts out."""
    calls = watched.of(path)
    if not calls:
        known = [name for name, _ in encoder.named_modules() if name]
        why = "does not run" if path in known else f"no such module in the encoder{nearest(path, known)}"
        raise UsageError(f"at: {path!r}: {why}")
    shape = calls[-1].output
    if shape is None or len(shape) != dims + 2:
        raise UsageError(f"at: {path!r}: gives {shape or 'no tensor'}; expected a map over {dims} dimensions")
    return shape


def by_stride(taps: Sequence[Tap], others: Sequence[Tap]) -> Mapping[int, int]:
    """Return which tap of another encoder stands for which of one, by their strides; taps without a match are left out.

    Args:
        taps: of the one.
        others: of the other.

    Raises:
        UsageError: one of them has several taps of a stride, and the other not as many.
    """
    matched: dict[int, int] = {}
    for stride in dict.fromkeys(tap.stride for tap in taps):
        one = [place for place, tap in enumerate(taps) if tap.stride == stride]
        other = [place for place, tap in enumerate(others) if tap.stride == stride]
        if other and len(one) != len(other):
            listed = ", ".join(str(side[place]) for side, places in ((taps, one), (others, other)) for place in places)
            raise UsageError(
                f"taps: {len(one)} and {len(other)} of stride {spelled(stride)} ({listed}); expected as many of each: "
                "name them: at="
            )
        matched |= dict(zip(one, other, strict=True)) if other else {}
    return matched
