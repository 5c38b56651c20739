"""FADE: upsampling that fuses what the encoder and the decoder know.

Lu, Liu, Fu and Cao, "FADE: Fusing the Assets of Decoder and Encoder for Task-Agnostic Upsampling", ECCV 2022
(https://arxiv.org/abs/2207.10392); "FADE: A Task-Agnostic Upsampling Operator for Encoder-Decoder Architectures", IJCV
2024. CARAFE predicts its kernels from the decoder alone and loses detail, IndexNet and A2U from the encoder alone and
see noise; FADE predicts them from both, and lets a gate choose where the encoder's feature itself shows through.

    E = alpha_en X_en,  D = alpha_de X_de                              pointwise, to d channels
    z(p) = (beta * E)(p) + (beta * D)(s(p))                            one 3-wide convolution for both, zero outside
    k(p) = softmax z(p)                                                K^n weights per fine position
    up(p) = sum over m of k_m(p) X_de(s(p) + o(m))                     zero outside, not renormalised
    out = g X_en + (1 - g) up,   g(p) = sigmoid(w X_de(s(p)) + b)      a gate of one channel

s(p) = floor(p coarse / fine) is the coarse position under p. z is evaluated from low to high: each feature is convolved
at its own size, so that nothing is concatenated, shifted or unfolded (the "semi-shift" of the paper). Parameters are
named as in the authors' code, and their weights load; `forward` takes the decoder's feature first.

Differs from that code: any scale, odd sizes, one to three dimensions; a fine grid needs not be a whole multiple; the
choice of where the biases stand (`bias`), in which poster, algorithm and code differ from each other; `renormalise`.
"""

from math import prod

import torch
from torch import Tensor, nn

from ranp.adapters.upsampling._blending import blend
from ranp.adapters.upsampling._sizes import (
    PerAxis,
    check_features,
    check_word,
    conv,
    odd,
    per_axis,
    upsample_nearest,
)
from ranp.errors import UsageError

SKIPS = ("gate", "add", "none")
BIASES = ("code", "paper", "algorithm")


class SemiShift(nn.Module):
    """Predict kernel logits (B, outputs, *fine) from the features of decoder and encoder.

    Args:
        encoder_channels, decoder_channels: of the features.
        outputs: K^n.
        dims: number of spatial dimensions.
        embedding: d, the channels that both are compressed to.
        groups: of the convolution beta; K^n makes it depthwise.
        content_kernel: width of beta, odd.
        bias: see `FADE`.
    """

    def __init__(
        self,
        encoder_channels: int,
        decoder_channels: int,
        outputs: int,
        dims: int,
        *,
        embedding: int,
        groups: int,
        content_kernel: int,
        bias: str,
    ) -> None:
        super().__init__()
        layer = conv(dims)
        self.compressor_en = layer(encoder_channels, embedding, 1, bias=bias == "code")
        self.compressor_de = layer(decoder_channels, embedding, 1, bias=bias != "code")
        self.content_encoder = layer(embedding, outputs, content_kernel, padding=content_kernel // 2, groups=groups)
        self.once = bias == "paper"
        for convolution in (self.compressor_en, self.compressor_de, self.content_encoder):
            _initialise(convolution)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        """Return logits at the size of the encoder's feature."""
        coarse = self.content_encoder(self.compressor_de(decoder))
        if self.once:  # beta's bias has passed here and passes again below
            assert self.content_encoder.bias is not None
            coarse = coarse - self.content_encoder.bias.view(-1, *[1] * (coarse.ndim - 2))
        logits: Tensor = self.content_encoder(self.compressor_en(encoder)) + upsample_nearest(coarse, encoder.shape[2:])
        return logits


class Pointwise(nn.Module):
    """A pointwise convolution under the name `conv`: the authors' gate generator and aligner."""

    def __init__(self, inputs: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.conv = conv(dims)(inputs, outputs, 1)
        _initialise(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map the channels."""
        out: Tensor = self.conv(x)
        return out


class FADE(nn.Module):
    """Upsample the decoder's feature with the help of the encoder's: (B, C, *coarse), (B, C', *fine) -> (B, C, *fine).

    Args:
        decoder_channels: C.
        encoder_channels: C'; C where it is not given.
        dims: number of spatial dimensions, 1 to 3.
        scale: fine over coarse, one number or one per dimension; P fine positions fit H coarse ones wherever
            |P - scale H| < scale, as encoders make them of odd sizes.
        kernel_size: K, odd, one number or one per dimension. K^n weights per fine position: take 3 in 3D.
        embedding: d, the channels that kernels are predicted from.
        content_kernel: odd; the neighbourhood that a kernel is predicted from.
        skip: `"gate"`, the published form; `"add"`, X_en + up; `"none"`, up alone, for decoders that join the
            encoder's feature themselves. The first two need C' = C, or `align`.
        align: bring the encoder's feature to C channels by a pointwise convolution before it is gated or added.
        bias: where the biases stand. `"code"`: on the encoder's compressor, and beta's in both convolutions, as in the
            code that the published weights come from; `"paper"`: on the decoder's compressor, and beta's once, as on
            the authors' poster; `"algorithm"`: on the decoder's compressor, and beta's in both, as printed in their
            Algorithm 1. They differ where kernels reach beyond the border, and in how fast beta's bias learns.
        renormalise: see `blend`; False is what was published.

    Raises:
        UsageError: an even or unfitting size, an unknown word, or channels that can't be gated, naming them.

    >>> fade = FADE(8, scale=2)
    >>> fade(torch.zeros(1, 8, 4, 6), torch.zeros(1, 8, 9, 12)).shape
    torch.Size([1, 8, 9, 12])
    """

    depthwise = False

    def __init__(
        self,
        decoder_channels: int,
        encoder_channels: int | None = None,
        *,
        dims: int = 2,
        scale: PerAxis = 2,
        kernel_size: PerAxis = 5,
        embedding: int = 64,
        content_kernel: int = 3,
        skip: str = "gate",
        align: bool = False,
        bias: str = "code",
        renormalise: bool = False,
    ) -> None:
        super().__init__()
        conv(dims)  # refuses another number
        check_word("skip", skip, SKIPS)
        check_word("bias", bias, BIASES)
        encoder_channels = decoder_channels if encoder_channels is None else encoder_channels
        if skip != "none" and encoder_channels != decoder_channels and not align:
            raise UsageError(
                f"skip={skip!r}: expected as many encoder channels ({encoder_channels}) as decoder channels "
                f"({decoder_channels}); align=True brings them there, skip='none' does without"
            )
        self.scale, self.kernel_size = per_axis(scale, dims, "scale"), odd(kernel_size, dims, "kernel_size")
        self.skip, self.renormalise = skip, renormalise
        taps = prod(self.kernel_size)
        self.ker_generator = SemiShift(
            encoder_channels, decoder_channels, taps, dims, bias=bias,
            embedding=taps if self.depthwise else embedding, groups=taps if self.depthwise else 1,
            content_kernel=odd(content_kernel, dims, "content_kernel")[0],
        )  # fmt: skip
        self.gate_generator = Pointwise(decoder_channels, 1, dims) if skip == "gate" else None
        self.aligner = Pointwise(encoder_channels, decoder_channels, dims) if align and skip != "none" else None

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        """Return (B, C, *fine).

        Args:
            decoder: (B, C, *coarse).
            encoder: (B, C', *fine).

        Raises:
            UsageError: sizes that are not the scale apart.
        """
        check_features(decoder, encoder, self.scale)
        kernels = self.ker_generator(encoder, decoder).softmax(1)  # (B, K^n, *fine)
        up = blend(decoder, kernels, self.kernel_size, renormalise=self.renormalise)
        if self.skip == "none":
            return up
        shown = encoder if self.aligner is None else self.aligner(encoder)
        if self.gate_generator is None:
            return shown + up
        gate = upsample_nearest(self.gate_generator(decoder).sigmoid(), encoder.shape[2:])  # (B, 1, *fine)
        return torch.lerp(up, shown.to(up.dtype), gate.to(up.dtype))

    def extra_repr(self) -> str:
        """Return what `print` shows of the upsampler."""
        return f"scale={self.scale}, kernel_size={self.kernel_size}, skip={self.skip!r}"


class FADELite(FADE):
    """FADE with compressors straight to K^n channels and a depthwise beta: a third of the parameters and operations.

    Arguments as for `FADE`; `embedding` has no meaning here and is refused.

    >>> sum(p.numel() for p in FADE(256).parameters()), sum(p.numel() for p in FADELite(256).parameters())
    (47514, 13332)
    """

    depthwise = True

    def __init__(
        self,
        decoder_channels: int,
        encoder_channels: int | None = None,
        *,
        dims: int = 2,
        scale: PerAxis = 2,
        kernel_size: PerAxis = 5,
        content_kernel: int = 3,
        skip: str = "gate",
        align: bool = False,
        bias: str = "code",
        renormalise: bool = False,
    ) -> None:
        super().__init__(
            decoder_channels, encoder_channels, dims=dims, scale=scale, kernel_size=kernel_size,
            content_kernel=content_kernel, skip=skip, align=align, bias=bias, renormalise=renormalise,
        )  # fmt: skip


def _initialise(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    """Draw weights as the authors do."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
