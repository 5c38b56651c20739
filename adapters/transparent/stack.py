"""Transparent layers: a stack of dense random affine layers that is the identity until it is trained.

Source: the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv 2010.04363). Layers added
after a pretrained network normally start by destroying what it learned; these start by changing nothing, and unlike
Net2Net's sparse identities every weight is dense and takes part in the first gradient step. `transparent_init` draws
the weights, `activations` says why an activation between the layers loses nothing.

Known limit: an identity in exact arithmetic is one up to rounding in the stack's dtype; biases of N(0, bias_scale^2)
make that rounding relative to `bias_scale`, so choose it no larger than the values the stack will see.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.adapters.transparent.activations import Activation, SeeThrough, activation_module, odd_slope
from ranp.adapters.transparent.init import Init, Layer, doubled, is_identity, make_layers, see_through
from ranp.adapters.transparent.probing import output_of, probed_channels
from ranp.errors import UsageError, named, nearest

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Pointwise(nn.Linear):
    """A linear layer along any dimension: a 1x1 convolution on (B, C, ...) with one to three more dims, else linear.

    Raises:
        UsageError: an input with another number of channels.
    """

    def forward(self, x: Tensor, channel_dim: int = 1) -> Tensor:
        """Map `x` along `channel_dim`; every other dimension stays as it is."""
        _check_channels(x, channel_dim, self.in_features)
        dims = x.ndim - 2
        if dims in _CONVOLUTIONS and channel_dim % x.ndim == 1:
            return _CONVOLUTIONS[dims](x, self.weight[(...,) + (None,) * dims], self.bias)
        return F.linear(x.movedim(channel_dim, -1), self.weight, self.bias).movedim(-1, channel_dim)


class TransparentStack(nn.Module):
    """k = len(widths) + 1 affine layers, pointwise over `channel_dim`: (B, C, ...) -> (B, C, ...), at first equal.

    With an activation the hidden layers hold twice the stated widths (see `activations`). No entry is shared.

    Args:
        channels: m_0 = m_k, the size of `channel_dim`.
        widths: m_1 .. m_(k-1), none below `channels`.
        activation: between the layers; a name of `activations.ACTIVATIONS`, an elementwise module or function, or None.
        channel_dim: the dimension the layers mix.
        init: `"orthonormal"`, `"gaussian"` (the paper's), the user's matrices A_1 .. A_(k-1) of size (m_(i-1), m_i), or
            a comparison: `"net2net"`, `"xavier"`, `"random"`, which hold the stated widths and a plain activation.
        bias_scale: standard deviation of the hidden biases, in units of the input.
        seed: of every draw; the global generator is left alone.
        dtype: of the parameters; default torch's.
        device: of the parameters.

    Raises:
        UsageError: no or too narrow widths, an unknown name, matrices of other sizes or not of full rank; and in the
            forward pass an input with another number of channels.

    >>> x = torch.arange(6.0).reshape(1, 3, 2)
    >>> torch.allclose(TransparentStack(3, (5, 4), activation="relu")(x), x, atol=1e-5)
    True
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (64, 64),
        activation: Activation | None = None,
        channel_dim: int = 1,
        *,
        init: Init = "orthonormal",
        bias_scale: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        _check_widths(channels, widths)
        dtype = dtype or torch.get_default_dtype()
        layers = make_layers((channels, *widths, channels), init, bias_scale, seed, dtype)
        layers, self.activation = _through(layers, activation, channel_dim, is_identity(init))
        self.layers = nn.ModuleList(_pointwise(layer, dtype, device) for layer in layers)
        self.channel_dim = channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Return the stack's output, same shape as `x`."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x, self.channel_dim))
        return last(x, self.channel_dim)  # type: ignore[no-any-return]


class Followed(nn.Module):
    """A module and what follows it. Other attributes are the module's, for networks that read `self.conv.kernel_size`.

    Args:
        module: run first.
        transparent: run on its output.
    """

    def __init__(self, module: nn.Module, transparent: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.transparent = transparent
        self.training = module.training

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        """Return what follows from the module's output."""
        return self.transparent(self.module(*inputs, **settings))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def insert_transparent(
    model: nn.Module,
    after: str,
    depth: int = 3,
    *,
    channels: int | None = None,
    widths: Sequence[int] | None = None,
    example_inputs: Tensor | Sequence[Any] | None = None,
    activation: Activation | None = None,
    channel_dim: int = 1,
    init: Init = "orthonormal",
    bias_scale: float | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a copy of `model` whose module `after` is followed by a transparent stack; the model itself is untouched.

    The module at that path becomes `Followed(module, stack)`, so its parameters move to `<after>.module`.

    Args:
        model: any network.
        after: dotted path of a module that returns one tensor, as in `model.named_modules()`; "" is the whole network.
        depth: number of affine layers, at least 2.
        channels: size of `channel_dim` there; where it is not given it is read off a run of `example_inputs`, off the
            module (`out_channels`, `out_features`, `num_features`), or off a run on shapes alone.
        widths: hidden widths, by default `depth - 1` times the larger of 64 and `channels`.
        example_inputs: a tensor, or a sequence of positional inputs, for one run without gradients.
        activation, channel_dim, init, seed: as in `TransparentStack`.
        bias_scale: as in `TransparentStack`; by default the smaller of 1 and the root mean square that `example_inputs`
            show there, which keeps the rounding error relative to the values; 0.1 without them, as logits are often
            well below 1.

    Raises:
        UsageError: unknown path, depth below 2 or at odds with `widths`, a number of channels nobody can tell, or a
            module that does not return one tensor.
    """
    model = copy.deepcopy(model)
    module = _submodule(model, after)
    seen = None if example_inputs is None else output_of(model, module, example_inputs, f"after={after!r}")
    channels = channels or _channels_of(model, module, after, channel_dim, seen)
    widths = default_widths(channels, depth) if widths is None else widths
    if depth < 2 or len(widths) != depth - 1:
        raise UsageError(f"depth={depth}: expected at least 2 and one more than the {len(widths)} widths")
    bias_scale = fitting_bias_scale(seen) if bias_scale is None else bias_scale
    like = next((p for p in (*module.parameters(), *model.parameters()) if p.is_floating_point()), torch.empty(0))
    stack = TransparentStack(
        channels, widths, activation, channel_dim,
        init=init, bias_scale=bias_scale, seed=seed, dtype=like.dtype, device=like.device,
    )  # fmt: skip
    return _replaced(model, module, Followed(module, stack.train(module.training)))


def default_widths(channels: int, depth: int) -> tuple[int, ...]:
    """Return `depth - 1` hidden widths: the paper's 64, or the number of channels where that is larger."""
    return (max(64, channels),) * (depth - 1)


def fitting_bias_scale(seen: Tensor | None) -> float:
    """Return the smaller of 1 and the root mean square of the values a stack will see; 0.1 where none are known."""
    return 0.1 if seen is None else min(1.0, float(seen.double().square().mean().sqrt()))


def _through(
    layers: list[Layer], activation: Activation | None, channel_dim: int, identity: bool
) -> tuple[list[Layer], nn.Module]:
    if activation is None:
        return layers, nn.Identity()
    module = activation_module(activation)
    slope = odd_slope(module)
    if not identity:
        return layers, module
    if slope is None:
        return see_through(layers), SeeThrough(module, channel_dim)
    return doubled(layers, slope), module


def _pointwise(layer: Layer, dtype: torch.dtype, device: torch.device | str | None) -> Pointwise:
    matrix, bias = layer
    module = Pointwise(matrix.shape[0], matrix.shape[1], device="meta")  # meta: no draw from the global generator
    module.weight = nn.Parameter(matrix.T.to(device, dtype).contiguous())
    module.bias = nn.Parameter(bias.to(device, dtype))
    return module


def _check_widths(channels: int, widths: Sequence[int]) -> None:
    if channels < 1 or not widths:
        raise UsageError(f"channels={channels}, widths={tuple(widths)}: expected at least one channel and one width")
    if min(widths) < channels:
        raise UsageError(
            f"{named('widths', tuple(widths))}: expected no width below the {channels} channels of the input"
        )


def _check_channels(x: Tensor, channel_dim: int, channels: int) -> None:
    _check_dim(x, channel_dim)
    if x.shape[channel_dim] != channels:
        raise UsageError(f"expected {channels} channels in dimension {channel_dim}, received shape {tuple(x.shape)}")


def _check_dim(x: Tensor, channel_dim: int) -> None:
    if not -x.ndim <= channel_dim < x.ndim or x.ndim < 2:
        raise UsageError(f"channel_dim={channel_dim}: expected input (B, C) or (B, C, ...), received {tuple(x.shape)}")


def _submodule(model: nn.Module, path: str) -> nn.Module:
    known: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if path not in known:
        raise UsageError(f"after={path!r}: no such module{nearest(path, known)}")
    return known[path]


def _replaced(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` in the place of `old` under every name it has in the model."""
    if old is model:
        return new
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children() leaves second names out
            if child is old:
                setattr(parent, name, new)
    return model


def _channels_of(model: nn.Module, module: nn.Module, path: str, channel_dim: int, seen: Tensor | None) -> int:
    if seen is not None:
        _check_dim(seen, channel_dim)
        return seen.shape[channel_dim]
    for name in ("out_channels", "out_features", "num_features"):
        if isinstance(getattr(module, name, None), int):
            return int(getattr(module, name))
    channels = probed_channels(model, path, channel_dim)
    if channels is None:
        raise UsageError(
            f"after={path!r}: a {type(module).__name__} does not tell its channels; give channels= or example_inputs="
        )
    return channels
