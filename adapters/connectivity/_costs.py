"""What a decoder costs, computed from its connections: as it is evaluated here, and the naive way.

The naive way brings every input of a stage to the stage's size, concatenates them and convolves that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ranp.adapters.connectivity._edges import Source
from ranp.adapters.connectivity._taps import Tap


@dataclass(frozen=True)
class DecoderCosts:
    """What a decoder costs for one image.

    Args:
        params: weights of convolutions, stages' norms and classifier.
        macs: multiply-adds of the convolutions, the classifier's too.
        upsampling: multiply-adds of the interpolations, 2^dims for each value that is made.
        activations: floats that a training keeps: the convolutions' outputs and the stages', or what is concatenated.
    """

    params: int
    macs: int
    upsampling: int
    activations: int


def decoder_costs(
    taps: Sequence[Tap],
    edges: Mapping[int, Sequence[Source]],
    image: Sequence[int],
    *,
    width: int,
    out_channels: int,
    naive: bool = False,
) -> DecoderCosts:
    """Return the costs of a decoder over an image of some size.

    Args:
        taps: of the encoder, the deepest first.
        edges: the inputs of each stage.
        image: spatial size; a stride that does not divide it counts a pixel more.
        width: channels of a stage.
        out_channels: of the logits.
        naive: whether inputs are upsampled and concatenated before they are convolved.
    """
    sizes = [prod(-(-length // stride) for length, stride in zip(image, tap.stride, strict=True)) for tap in taps]
    params = (2 * width) * len(edges) + (width + 1) * out_channels
    macs, upsampling, activations = width * out_channels * sizes[-1], 0, 0
    for stage, sources in edges.items():
        for source in sources:
            channels = width if source.kind == "D" else taps[source.level].channels
            size = 1 if source.kind == "G" else sizes[source.level]
            at = sizes[stage] if naive else size
            params += channels * width
            macs += channels * width * at
            if size not in (1, sizes[stage]):
                upsampling += 2 ** len(image) * (channels if naive else width) * sizes[stage]
            activations += (channels if naive else width) * at
        activations += 0 if naive else width * sizes[stage]
    return DecoderCosts(params, macs, upsampling, activations)
