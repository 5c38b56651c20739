"""Give a network's decoder other upsamplers, and find the encoder features they look at.

An upsampler sits in a decoder and is handed the decoder's feature alone. FADE looks at the encoder's too: it is kept by
a hook where the network computes it, until the upsampler takes it. Names of features:

    encoder.1           what the module of that path puts out
    decoder.0@0         the first positional input of a module, @1 the second
    @0                  the network's own input

The hooks are part of the network: a copy of it, a pruned one, a compiled or an exported one carries its own. They are
not made for `nn.DataParallel`, whose threads would share them (`DistributedDataParallel` is fine), nor for activation
checkpoints around an upsampler without its encoder, which run it again after its feature is gone.
"""

import copy
import fnmatch
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ranp.adapters.upsampling._carafe import CARAFE
from ranp.adapters.upsampling._fade import FADE, FADELite
from ranp.adapters.upsampling._sizes import check_word, conv
from ranp.adapters.upsampling.watching import Call, Feature, Watched, watch
from ranp.errors import UsageError, nearest, saying
from ranp.inputs import Inputs
from ranp.models.networks.unet import Up

METHODS: dict[str, type[FADE] | type[CARAFE]] = {"fade": FADE, "fade-lite": FADELite, "carafe": CARAFE}
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
_TOLD_BY_THE_NETWORK = {"channels", "decoder_channels", "encoder_channels", "dims", "scale", "skip", "align"}


class Upsampled(nn.Module):
    """What takes the place of an upsampling module: a projection to its output channels, then an upsampler.

    Args:
        upsampler: `FADE`, `FADELite` or `CARAFE`.
        feature: what the encoder knows, or None where it is not asked.
        projection: a pointwise convolution in place of a transposed one, or None.
    """

    def __init__(self, upsampler: FADE | CARAFE, feature: Feature | None, projection: nn.Module | None) -> None:
        super().__init__()
        self.projection, self.upsampler, self.feature = projection, upsampler, feature

    def forward(self, decoder: Tensor, output_size: Any = None) -> Tensor:
        """Map (B, C, *coarse) to (B, C', *fine); what a transposed convolution is told of its output is not needed."""
        if self.projection is not None:
            decoder = self.projection(decoder)
        out: Tensor
        out = self.upsampler(decoder) if self.feature is None else self.upsampler(decoder, self.feature.take())
        return out

    def extra_repr(self) -> str:
        """Return what `print` shows: which feature it looks at."""
        return "" if self.feature is None else f"feature={self.feature.name!r}"


def swap_upsampling(
    model: nn.Module,
    method: str = "fade",
    *,
    example_inputs: Inputs,
    at: str | Sequence[str] | None = None,
    skips: Mapping[str, str] | None = None,
    skip: str | None = None,
    seed: int = 0,
    **settings: Any,
) -> nn.Module:
    """Return a copy of a network that upsamples by another method; the network itself is untouched.

    Replaced are modules that upsample by a whole number, each under its own name: `nn.Upsample`; transposed
    convolutions with a stride, by a pointwise convolution that holds the mean of their weights over the fine positions
    of a coarse one, and an upsampler; any module named in `at`; and the decoder levels of ranp's own U-Nets that
    interpolate in their forward, which get a module `upsample`. All other weights are kept. `F.interpolate` in a
    forward of yours is no module: put an `nn.Upsample` there.

    The encoder's feature for an upsampler is, unless `skips` names it, the first of these that has its output size: an
    input of the innermost module around it that is handed one beside others, as a decoder block is handed its skip;
    what a module put out last before the upsampler ran, as an encoder leaves it; the network's own input. Look at what
    was chosen (`print(model)` shows it), and name another where it is not the right one.

    Args:
        model: any network whose upsampling modules each run once in a forward.
        method: `"fade"`, `"fade-lite"` or `"carafe"`, which looks at no encoder feature.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword ones, for two runs in evaluation
            mode: they tell channels and sizes, and that the copy still gives outputs of the same shapes. They are on
            shapes alone where the network runs so.
        at: paths of the modules to replace, or globs over those that upsample; None: all that do.
        skips: from an upsampler's path to the name of its feature (above).
        skip: as in `FADE`; None gates where encoder and decoder have equally many channels and leaves the encoder's
            feature out of the sum where not; with `"gate"` and `"add"` unequal channels are aligned.
        seed: of the new weights; the global generator is left alone.
        settings: further arguments of the method: `kernel_size`, `embedding`, ..

    Raises:
        UsageError: an unknown method, path or feature, a scale that is no whole number, a module that runs more than
            once, or a network that does not run with the upsamplers in it; one line that names the module.
    """
    check_word("method", method, tuple(METHODS))
    _check_settings(method, settings)
    if method == "carafe" and (skips or skip):
        raise UsageError(f"skip{'s' if skips else ''}=: 'carafe' looks at no feature of the encoder")
    model = copy.deepcopy(model)
    with saying(UsageError, "example_inputs: the network does not run"):
        watched = watch(model, example_inputs)
    sites = _sites(model, watched, at)
    unknown = next((path for path in skips or {} if path not in sites), None)
    if unknown is not None:
        raise UsageError(f"skips: {unknown!r} is none of the upsamplers {', '.join(sites)}{nearest(unknown, sites)}")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = {}
        for site in sites.values():
            name = (skips or {}).get(site.path) or site.feature(watched) if method != "carafe" else None
            made[site.path] = _upsampled(model, watched, site, method, name, skip, settings).to(like.device, like.dtype)
    for path, upsampled in made.items():
        _put(model, sites[path], upsampled)
    _check_outputs(model, watched, example_inputs)
    return model


def _check_settings(method: str, settings: Mapping[str, Any]) -> None:
    known = set(inspect.signature(METHODS[method]).parameters) - _TOLD_BY_THE_NETWORK
    for name in settings:
        if name not in known:
            expected = ", ".join(sorted(known))
            raise UsageError(f"{name}=: {method!r} takes the settings {expected}{nearest(name, known)}")


# What is replaced


@dataclass
class _Site:
    """A place in a network where something is upsampled.

    Args:
        path: of the module that is replaced, or where one is put.
        module: what is replaced, None where nothing stands there yet.
        began: when it ran.
        inputs: shape of the decoder's feature.
        output: shape of what came out.
        scale: one per spatial dimension.
    """

    path: str
    module: nn.Module | None
    began: int
    inputs: tuple[int, ...]
    output: tuple[int, ...]
    scale: tuple[int, ...]

    def fits(self, shape: tuple[int, ...] | None) -> bool:
        """Whether a feature has a size that this place may upsample to."""
        if shape is None or len(shape) != len(self.inputs) or shape[0] != self.inputs[0]:
            return False
        axes = zip(shape[2:], self.scale, self.inputs[2:], strict=True)
        return all(abs(fine - scale * coarse) < scale for fine, scale, coarse in axes)

    def equals(self, shape: tuple[int, ...] | None) -> bool:
        """Whether a feature has the very size that came out here."""
        return self.fits(shape) and shape is not None and shape[2:] == self.output[2:]

    def feature(self, watched: Watched) -> str:
        """Return the name of the encoder's feature that is handed over here."""
        around = [call for call in watched.calls if call.began <= self.began < call.ended and call.path != self.path]
        for call in reversed(around):
            fitting = [index for index, shape in enumerate(call.inputs) if self.fits(shape)]
            if fitting and len(fitting) < sum(shape is not None for shape in call.inputs):
                return f"{call.path}@{fitting[0]}"
        before = {call.path: call for call in watched.calls if call.ended < self.began}  # the last call of each
        for fits in (self.equals, self.fits):
            left = [call for call in before.values() if fits(call.output)]
            if left:
                return max(left, key=lambda call: call.ended).path
            for index, shape in enumerate(watched.calls[0].inputs):
                if fits(shape):
                    return f"@{index}"
        sizes = " x ".join(map(str, self.output[2:]))
        raise UsageError(f"{self.path}: nothing before it has a size of {sizes}; name a feature: skips=...")


def _sites(model: nn.Module, watched: Watched, at: str | Sequence[str] | None) -> dict[str, _Site]:
    modules = dict(model.named_modules())
    upsampling = [path for path, module in modules.items() if _upsamples(module)]
    if at is None:
        wanted = upsampling
    else:
        wanted = []
        for pattern in (at,) if isinstance(at, str) else at:
            matching = [pattern] if pattern in modules else []
            matching += [path for path in upsampling if _named(path, modules[path], pattern) and path != pattern]
            if not matching:
                raise UsageError(f"at={pattern!r}: matches no module{nearest(pattern, modules)}")
            wanted += [path for path in matching if path not in wanted]
    sites = [_site(path, modules[path], watched) for path in wanted]
    if not sites:
        raise UsageError("swap_upsampling: no nn.Upsample or strided transposed convolution; name modules: at=...")
    return {site.path: site for site in sites}


def _named(path: str, module: nn.Module, pattern: str) -> bool:
    """Whether a glob names something that upsamples; in a level of ranp's own U-Nets, the module it will get."""
    return fnmatch.fnmatchcase(f"{path}.upsample" if isinstance(module, Up) else path, pattern)


def _upsamples(module: nn.Module) -> bool:
    if isinstance(module, _TRANSPOSED):
        return max(module.stride) > 1
    return isinstance(module, nn.Upsample) or (isinstance(module, Up) and module.upsample is None)


def _site(path: str, module: nn.Module, watched: Watched) -> _Site:
    calls = watched.of(path)
    if len(calls) != 1:
        advice = "give each call a module of its own" if calls else "leave it out of at="
        raise UsageError(f"{path}: expected to run once in a forward, ran {len(calls)} times; {advice}")
    call = calls[0]
    if isinstance(module, Up) and module.upsample is None:
        shapes = call.inputs[1], call.inputs[0]
        assert shapes[0] is not None
        assert shapes[1] is not None
        fine = (shapes[0][0], shapes[0][1], *shapes[1][2:])
        return _Site(f"{path}.upsample", None, call.began, shapes[0], fine, (2,) * (len(fine) - 2))
    if not call.inputs or call.inputs[0] is None or call.output is None or len(call.output) not in (3, 4, 5):
        raise UsageError(f"{path}: expected a module from one feature (B, C, ...) to another, got {call.output}")
    site = _Site(path, module, call.began, call.inputs[0], call.output, _scale(path, module, call))
    if not site.fits(site.output) or max(site.scale) == 1:
        sizes = " -> ".join(" x ".join(map(str, shape[2:])) for shape in (site.inputs, site.output))
        raise UsageError(f"{path}: expected a module that upsamples by a whole number, got sizes {sizes}")
    return site


def _scale(path: str, module: nn.Module, call: Call) -> tuple[int, ...]:
    if isinstance(module, _TRANSPOSED):
        return module.stride
    assert call.inputs[0] is not None
    assert call.output is not None
    return tuple(max(1, round(fine / coarse)) for coarse, fine in zip(call.inputs[0][2:], call.output[2:], strict=True))


# What comes in its place


def _upsampled(
    model: nn.Module,
    watched: Watched,
    site: _Site,
    method: str,
    name: str | None,
    skip: str | None,
    settings: Mapping[str, Any],
) -> Upsampled:
    channels, dims = site.output[1], len(site.scale)
    common = {"dims": dims, "scale": site.scale, **settings}
    if name is None:
        return Upsampled(CARAFE(channels, **common), None, _projection(site))
    kind, feature = METHODS[method], _kept(model, name)
    assert issubclass(kind, FADE)
    encoder = _shape_of(watched, feature, site)[1]
    skip = skip or ("gate" if encoder == channels else "none")
    return Upsampled(
        kind(channels, encoder, skip=skip, align=encoder != channels, **common), feature, _projection(site)
    )


def _kept(model: nn.Module, name: str) -> Feature:
    """Hook a feature up where it is computed."""
    parts = re.fullmatch(r"(.*?)(?:@(\d+))?", name)
    assert parts is not None
    path, index = parts[1], None if parts[2] is None else int(parts[2])
    modules = dict(model.named_modules())
    if path not in modules:
        raise UsageError(f"skips: {name!r}: no such module{nearest(path, modules)}")
    feature = Feature(name, index)
    if index is None:
        modules[path].register_forward_hook(feature.keep_output)
    else:
        modules[path].register_forward_pre_hook(feature.keep_input)
    return feature


def _shape_of(watched: Watched, feature: Feature, site: _Site) -> tuple[int, ...]:
    """Return the shape of the last value a feature had before the upsampler ran."""
    path = feature.name.partition("@")[0]
    shape, index = None, feature.index
    for call in watched.of(path):
        if index is None and call.ended < site.began:
            shape = call.output
        elif index is not None and call.began <= site.began:
            shape = call.inputs[index] if index < len(call.inputs) else None
    if shape is None or not site.fits(shape):
        sizes = " x ".join(map(str, site.output[2:]))
        raise UsageError(f"skips: {feature.name} for {site.path}: expected a feature of size {sizes}, got {shape}")
    return shape


def _projection(site: _Site) -> nn.Module | None:
    """Return a pointwise convolution from the channels that come in to those that go out, or None where none is needed.

    A transposed convolution gives each fine position a sum of some of its taps: their mean over the fine positions of a
    coarse one is the sum of all taps over their number.
    """
    old, dims = site.module, len(site.scale)
    if isinstance(old, _TRANSPOSED):
        new = conv(dims)(old.in_channels, old.out_channels, 1, groups=old.groups, bias=old.bias is not None)
        mean = old.weight.detach().flatten(2).sum(2) / prod(site.scale)  # (I, O / groups)
        blocks = [block.T for block in mean.chunk(old.groups)]  # (O / groups, I / groups) each
        new.weight = nn.Parameter(torch.cat(blocks).reshape(new.weight.shape).clone())
        if old.bias is not None:
            new.bias = nn.Parameter(old.bias.detach().clone())
        return new
    if site.inputs[1] != site.output[1]:
        return conv(dims)(site.inputs[1], site.output[1], 1)
    return None


def _put(model: nn.Module, site: _Site, upsampled: Upsampled) -> None:
    """Put an upsampler in its place, under every name that what stood there had."""
    if site.module is None:
        parent, _, name = site.path.rpartition(".")
        block = model.get_submodule(parent)
        setattr(block, name, upsampled.train(block.training))
        return
    upsampled.train(site.module.training)
    for holder in list(model.modules()):
        for name, child in list(holder._modules.items()):
            if child is site.module:
                setattr(holder, name, upsampled)


def _check_outputs(model: nn.Module, watched: Watched, inputs: Inputs) -> None:
    with saying(UsageError, "swap_upsampling: the network does not run with the upsamplers in it"):
        outputs = watch(model, inputs).outputs
    if outputs != watched.outputs:
        raise UsageError(f"swap_upsampling: expected outputs {watched.outputs} as before, got {outputs}; see skips=")


# The built-in networks


def with_carafe(network: nn.Module, image: Tensor) -> nn.Module:
    """Return a built-in network with CARAFE in its decoder; an entry point of the group "ranp.upsampling"."""
    return _built_in(network, image, "carafe")


def with_fade(network: nn.Module, image: Tensor) -> nn.Module:
    """Return a built-in network with FADE in its decoder; an entry point likewise."""
    return _built_in(network, image, "fade")


def with_fade_lite(network: nn.Module, image: Tensor) -> nn.Module:
    """Return a built-in network with FADE-Lite in its decoder; an entry point likewise."""
    return _built_in(network, image, "fade-lite")


def _built_in(network: nn.Module, image: Tensor, method: str) -> nn.Module:
    """Swap all upsampling; the new weights follow the seed that the network was drawn with."""
    size = 5 if image.ndim < 5 else 3
    return swap_upsampling(network, method, example_inputs=image, kernel_size=size, seed=torch.initial_seed())
