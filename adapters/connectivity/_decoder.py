"""The decoder over an encoder's features: each connection a pointwise convolution at its own size, then upsampled.

Stage l, with the size of the encoder's feature l, sums over its inputs t:

    D_l = norm( sum_t  w_t up( norm_t( W_t act(t) ) ) )

W_t has no bias; up is linear interpolation to the stage's size, with corners aligned, and a broadcast for the pooled
feature. A pointwise convolution and such an upsampling commute, and so do a sum over inputs and a convolution of their
concatenation: that is the convolution of everything upsampled and concatenated, at a small part of its cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ranp.adapters.connectivity._edges import GLOBAL, Source, every_edge
from ranp.adapters.connectivity._taps import Tap
from ranp.errors import UsageError, nearest

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu6": nn.ReLU6, "relu": nn.ReLU, "none": nn.Identity}
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MODES = ("linear", "bilinear", "trilinear")
Features = Sequence[Tensor] | Mapping[int, Tensor]
LARGEST = 2.0
"""Of a gate as it is stored; half of it, in [0, 1], is what losses and the drop rule look at."""


class Decoder(nn.Module):
    """A decoder with some of the connections, one after the other from the deepest stage to the finest.

    Args:
        taps: of the encoder, the deepest first.
        edges: the inputs of each stage that there is, by its place among the taps; the finest is the output.
        width: channels of every stage.
        out_channels: of the logits.
        act: before each convolution: "relu6" as published, "relu" where features may be large, or "none".
        edge_norms: whether each connection has a batch norm of its own, without parameters to learn.
        momentum: of the batch norms; published are 0.0003, for 33,100 steps.

    Raises:
        UsageError: a width or channels below 1, an activation there is not, a stage or input that is not there.
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        edges: Mapping[int, Sequence[Source]],
        width: int = 64,
        out_channels: int = 2,
        *,
        act: str = "relu6",
        edge_norms: bool = False,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("out_channels", out_channels)):
            if value < 1:
                raise UsageError(f"{name}={value}: expected 1 or more")
        if act not in ACTIVATIONS:
            raise UsageError(f"act={act!r}: expected one of {', '.join(ACTIVATIONS)}{nearest(act, ACTIVATIONS)}")
        self.taps, self.edges = tuple(taps), {stage: tuple(sources) for stage, sources in edges.items()}
        self.dims = taps[0].dims
        self.named_act, self.act = act, ACTIVATIONS[act]()
        self.output = len(taps) - 1
        check_edges(self.edges, self.output)
        self.stages = nn.ModuleDict(
            {
                str(stage): Stage(
                    {source: width if source.kind == "D" else taps[source.level].channels for source in sources},
                    width, self.dims, edge_norms, momentum,
                )
                for stage, sources in sorted(self.edges.items())
            }
        )  # fmt: skip
        self.classifier = _CONVS[self.dims - 1](width, out_channels, 1)

    @property
    def width(self) -> int:
        """Channels of a stage, the output's."""
        return int(self.classifier.in_channels)

    @property
    def levels(self) -> set[int]:
        """The features that the decoder reads, for their values or their sizes."""
        taken = {source.level for sources in self.edges.values() for source in sources if source.kind != "D"}
        return taken | set(self.edges)

    def forward(self, features: Features) -> Tensor:
        """Return logits (B, out_channels, *spatial) at the size of the finest feature.

        Args:
            features: of the taps, the deepest first, or by their place.
        """
        return self.decoded(features, {})

    def decoded(self, features: Features, gates: Mapping[int, Tensor]) -> Tensor:
        """Return the logits, with the connections of the stages multiplied by gates."""
        values = self.inputs_of(features)
        for stage, sources in self.edges.items():
            given = [values[source] for source in sources]
            values[Source("D", stage)] = self.act(self.stage(stage, given, features[stage], gates.get(stage)))
        logits: Tensor = self.classifier(values[Source("D", self.output)])
        return logits

    def stage(self, stage: int, given: Sequence[Tensor], like: Tensor, gates: Tensor | None) -> Tensor:
        """Return what a stage gives, (B, width, *spatial), before the activation."""
        out: Tensor = self.stages[str(stage)](given, tuple(like.shape[2:]), gates)
        return out

    def inputs_of(self, features: Features) -> dict[Source, Tensor]:
        """Return what connections take of the encoder, activated; the deepest is pooled before that, as published."""
        taken = {source for sources in self.edges.values() for source in sources}
        values = {source: self.act(features[source.level]) for source in sorted(taken) if source.kind == "E"}
        if GLOBAL in taken:
            values[GLOBAL] = self.act(features[0].mean(tuple(range(2, self.dims + 2)), keepdim=True))
        return values


class Stage(nn.Module):
    """One stage: its inputs, each through a convolution of its own, upsampled and added up.

    Args:
        channels: of each input.
        width: of the stage.
        dims: spatial dimensions.
        edge_norms: whether each connection has a norm.
        momentum: of all norms.
    """

    def __init__(
        self, channels: Mapping[Source, int], width: int, dims: int, edge_norms: bool, momentum: float
    ) -> None:
        super().__init__()
        self.mode = _MODES[dims - 1]
        conv, norm = _CONVS[dims - 1], _NORMS[dims - 1]
        self.convs = nn.ModuleDict({str(each): conv(count, width, 1, bias=False) for each, count in channels.items()})
        self.norms = nn.ModuleDict({name: norm(width, momentum=momentum) for name in self.convs} if edge_norms else {})
        self.norms.requires_grad_(False)  # a gate that a norm could undo would say nothing
        self.norm = norm(width, momentum=momentum)

    def forward(self, given: Sequence[Tensor], size: Sequence[int], gates: Tensor | None = None) -> Tensor:
        """Return (B, width, *size) of inputs that are as large or smaller, in their order."""
        total: Tensor | None = None
        for place, (name, conv) in enumerate(self.convs.items()):
            added = conv(given[place])
            if self.norms:
                added = _normed(self.norms[name], added)
            if gates is not None:
                added = gates[place] * added
            added = self.upsampled(added, size)
            total = added if total is None else total + added
        assert total is not None
        return _normed(self.norm, total.expand(*total.shape[:2], *size))

    def upsampled(self, feature: Tensor, size: Sequence[int]) -> Tensor:
        """Return a feature at a size; a single pixel is added to all of them as it is."""
        if all(length == 1 for length in feature.shape[2:]) or tuple(feature.shape[2:]) == tuple(size):
            return feature
        return F.interpolate(feature, size=tuple(size), mode=self.mode, align_corners=True)


def _normed(norm: nn.Module, feature: Tensor) -> Tensor:
    """Return a feature normalised; one pixel of one sample has no statistics, and takes those that were collected."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if norm.training and feature.numel() == feature.shape[1]:
        return F.batch_norm(feature, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    out: Tensor = norm(feature)
    return out


class FullyDenseDecoder(Decoder):
    """The decoder with every connection there may be, and a gate on each: what a search begins with.

    Gates lie in [0, 2] and begin at 1. In training each forward multiplies by clamp(w + noise * N(0, 1), 0, 2), in
    evaluation by w itself (the authors' code draws there too). They are clamped to their range before each forward in
    training, which is after each step of any loop.

    Args:
        taps: as of `Decoder`, and so are the other arguments.
        width: channels of every stage.
        out_channels: of the logits.
        act: before each convolution.
        gate_noise: standard deviation of what is added to gates in training.
        edge_norms: whether each connection has a norm.
        momentum: of the batch norms.
        checkpointed: whether what is inside of a stage is computed again in the backward, and not kept until then.

    Raises:
        UsageError: as `Decoder`, or a negative noise.
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        width: int = 64,
        out_channels: int = 2,
        *,
        act: str = "relu6",
        gate_noise: float = 0.1,
        edge_norms: bool = True,
        momentum: float = 0.1,
        checkpointed: bool = False,
    ) -> None:
        if gate_noise < 0:
            raise UsageError(f"gate_noise={gate_noise:g}: expected 0 or more")
        super().__init__(
            taps, every_edge(len(taps)), width, out_channels, act=act, edge_norms=edge_norms, momentum=momentum
        )
        self.gate_noise, self.checkpointed = gate_noise, checkpointed
        self.gates = nn.ParameterList(torch.ones(len(sources)) for sources in self.edges.values())
        for stage in self.stages.values():
            stage.norm.requires_grad_(False)

    def draw(self) -> dict[int, Tensor]:
        """Return the gates of each stage as the next forward shall multiply by them, in the order of its inputs."""
        if not self.training:
            return {stage: gates.clamp(0, LARGEST) for stage, gates in enumerate(self.gates)}
        with torch.no_grad():
            for gates in self.gates:
                gates.clamp_(0, LARGEST)
        return {
            stage: (gates + self.gate_noise * torch.randn_like(gates)).clamp(0, LARGEST)
            for stage, gates in enumerate(self.gates)
        }

    def forward(self, features: Features, gates: Mapping[int, Tensor] | None = None) -> Tensor:
        """Return logits at the size of the finest feature.

        Args:
            features: of the taps, the deepest first.
            gates: what `draw` returned, for a loss that looks at the same; by default drawn here.
        """
        return self.decoded(features, self.draw() if gates is None else gates)

    def stage(self, stage: int, given: Sequence[Tensor], like: Tensor, gates: Tensor | None) -> Tensor:
        """Return what a stage gives, computed again in the backward if that was asked for."""
        if not (self.checkpointed and self.training):
            return super().stage(stage, given, like, gates)
        out: Tensor = checkpoint(
            lambda *tensors: Decoder.stage(self, stage, tensors, like, gates), *given, use_reentrant=False,
            preserve_rng_state=False, context_fn=lambda: (nullcontext(), _still(self.stages[str(stage)])),
        )  # fmt: skip
        return out

    def values(self) -> list[list[float]]:
        """Return the gates as numbers, of each stage in the order of its inputs."""
        return [gates.detach().clamp(0, LARGEST).tolist() for gates in self.gates]


@contextmanager
def _still(stage: nn.Module) -> Iterator[None]:
    """Keep the norms of a stage from counting a batch twice while it is computed again."""
    kept = [(module, dict(module._buffers)) for module in stage.modules()]
    for module, buffers in kept:
        module._buffers.update({name: None if each is None else each.clone() for name, each in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)


def check_edges(edges: Mapping[int, Sequence[Source]], output: int) -> None:
    """Refuse connections that make no decoder.

    Raises:
        UsageError: the output stage has no input, an input is not there or does not come before its stage.
    """
    if not edges.get(output):
        raise UsageError(f"edges: the output stage {output} has no input")
    for stage, sources in edges.items():
        for source in sources:
            last = stage - 1 if source.kind == "D" else stage
            there = source.kind == "G" or 0 <= source.level <= last
            if not there or not 0 <= stage <= output or (source.kind == "D" and source.level not in edges):
                raise UsageError(f"edges: stage {stage} takes {source}; expected an input that is there before it")


def at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return logits (B, C, *spatial) at the size of the image."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode=_MODES[len(size) - 1], align_corners=True)
