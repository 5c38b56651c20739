"""An encoder and a decoder over its features: with every connection and gates, or with those of a mask."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ranp.adapters.connectivity._decoder import Decoder, FullyDenseDecoder, Stage, at_size
from ranp.adapters.connectivity._edges import Source, every_source
from ranp.adapters.connectivity._mask import ConnectivityMask
from ranp.adapters.connectivity._taps import Tapped, find_taps, taps_of
from ranp.errors import UsageError, nearest

Start = Literal["fresh", "inherit"]


class Connected(nn.Module):
    """A network of an encoder and a decoder: (B, C, *spatial) in, logits at the same size out.

    Args:
        encoder: the features, by place.
        decoder: over them.
    """

    def __init__(self, encoder: Tapped, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, out_channels, *spatial)."""
        return at_size(self.decoder(self.encoder(image)), image.shape[2:])


def connect(
    encoder: nn.Module,
    example: Tensor,
    out_channels: int,
    *,
    at: Sequence[str] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Connected:
    """Return a copy of an encoder with a decoder of every connection there may be; the encoder itself is untouched.

    Args:
        encoder: any network of one image.
        example: an image (B, C, *spatial).
        out_channels: of the logits.
        at: paths of the modules that are tapped, where they are not to be found.
        seed: of the decoder's weights; the global generator is left alone.
        settings: of `FullyDenseDecoder`.

    Raises:
        UsageError: as `find_taps` and `FullyDenseDecoder`.
    """
    taps = find_taps(encoder, example, at)
    decoder = _seeded(seed, lambda: FullyDenseDecoder(taps, out_channels=out_channels, **settings))
    return Connected(Tapped(encoder, taps, example), decoder).to(_like(encoder)).train(encoder.training)


def connect_by(
    mask: ConnectivityMask, encoder: nn.Module, example: Tensor, out_channels: int, *, seed: int = 0
) -> Connected:
    """Return a copy of an encoder with the decoder of a mask, its weights drawn.

    What of the encoder comes after the deepest feature that is read is left out.

    Args:
        mask: over the features of this encoder; `transfer` makes it from that of another.
        encoder: the network; untouched.
        example: an image (B, C, *spatial).
        out_channels: of the logits.
        seed: of the decoder's weights.

    Raises:
        UsageError: the encoder has no such features, or the connections make no decoder.
    """
    named = None if mask.taps[0].name.startswith("[") else [tap.name for tap in mask.taps]
    known = {tap.name: tap for tap in taps_of(encoder, example, named)}
    for tap in mask.features:
        if known.get(tap.name) != tap:
            has = known.get(tap.name)
            seen = "no such feature" if has is None else f"{has.channels} channels at stride {has.stride}"
            raise UsageError(f"mask: {tap} of {tap.channels} channels: the encoder has {seen}; see transfer")
    decoder = _seeded(seed, lambda: Decoder(mask.features, mask.kept, mask.width, out_channels, act=mask.act))
    tapped = Tapped(encoder, mask.features, example, decoder.levels)
    return Connected(tapped, decoder).to(_like(encoder)).train(encoder.training)


def emit(
    network: Connected, mask: ConnectivityMask, example: Tensor, *, init: Start = "fresh", seed: int = 0
) -> Connected:
    """Return the network with the connections of a mask alone, without gates; the network itself is untouched.

    With `"inherit"` each convolution takes the weights of the search, times its gate and what its norm multiplies by;
    what the norms add up to goes into the mean of the stage's norm. In evaluation that is the network with the dropped
    gates at 0, exactly, unless stages were merged or subsumed: users of a stage that was merged read the other one.

    Args:
        network: that was searched, with a `FullyDenseDecoder`.
        mask: of its connections.
        example: an image (B, C, *spatial).
        init: "fresh" draws the decoder's weights, as published; "inherit" folds those of the search.
        seed: of fresh weights.

    Raises:
        UsageError: a network that was not searched, a mask over other features, or no such word for `init`.
    """
    if init not in get_args(Start):
        raise UsageError(f"init={init!r}: expected fresh or inherit{nearest(init, get_args(Start))}")
    dense = network.decoder
    if not isinstance(dense, FullyDenseDecoder):
        raise UsageError("network: its decoder has no gates; expected what `connect` returned")
    if mask.features != dense.taps:
        raise UsageError("mask: is over other features than the network's; see transfer")
    classes = dense.classifier.out_channels
    decoder = _seeded(seed, lambda: Decoder(dense.taps, mask.kept, mask.width, classes, act=mask.act))
    if init == "inherit":
        _inherit_(decoder, dense, mask)
    tapped = network.encoder.narrowed(decoder.levels, example)
    return Connected(tapped, decoder).to(_like(network)).train(network.training)


@torch.no_grad()
def _inherit_(slim: Decoder, dense: FullyDenseDecoder, mask: ConnectivityMask) -> None:
    """Fold gates and norms into the convolutions of a slim decoder, and what they add into the stages' norms."""
    slim.to(dense.classifier.weight)
    slim.classifier.load_state_dict(dense.classifier.state_dict())
    for stage, sources in slim.edges.items():
        old, new = dense.stages[str(stage)], slim.stages[str(stage)]
        assert isinstance(old, Stage)
        assert isinstance(new, Stage)
        new.norm.load_state_dict(old.norm.state_dict())
        assert new.norm.running_mean is not None
        for source in sources:
            weight = new.convs[str(source)].weight
            assert isinstance(weight, Tensor)
            total = torch.zeros_like(weight)
            brings = mask.edge(stage, source).stands_for if source.kind == "D" else ()
            for each in [Source("D", level) for level in brings] or [source]:
                place = every_source(stage).index(each)
                added, offset = _folded(old, str(each), dense.gates[stage][place].clamp(0, 2))
                total += added
                new.norm.running_mean -= offset
            weight.copy_(total)


def _folded(stage: Stage, name: str, gate: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of a connection with its gate and norm in it, and what both add to each channel."""
    weight = stage.convs[name].weight
    assert isinstance(weight, Tensor)
    if name not in stage.norms:
        return gate * weight, torch.zeros_like(weight[:, 0].flatten())
    norm = stage.norms[name]
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = gate * norm.weight / (norm.running_var + norm.eps).sqrt()
    return factor.view(-1, *(1,) * (weight.ndim - 1)) * weight, gate * norm.bias - factor * norm.running_mean


def _seeded(seed: int, make: Callable[[], Decoder]) -> Decoder:
    """Make a decoder without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def _like(model: nn.Module) -> Tensor:
    """Return a tensor whose device and dtype are a network's."""
    return next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
