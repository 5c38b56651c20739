"""CARAFE: content-aware reassembly of features.

Wang, Chen, Xu, Liu, Loy and Lin, "CARAFE: Content-Aware ReAssembly of FEatures", ICCV 2019
(https://arxiv.org/abs/1905.02188). The decoder alone predicts a kernel for every fine position. Parameters are laid out
as in the authors' layer; volumes, signals, scales per axis and fine grids that are no whole multiple go beyond it. Its
groups of channels with kernels of their own are not here: none of the published networks uses more than one.
"""

from math import prod

from torch import Tensor, nn

from ranp.adapters.upsampling._blending import blend
from ranp.adapters.upsampling._sizes import PerAxis, check_features, conv, odd, per_axis, upsample_nearest


class CARAFE(nn.Module):
    """Upsample (B, C, *coarse) by kernels it predicts from it.

    Args:
        channels: C.
        dims: number of spatial dimensions, 1 to 3.
        scale: how many times finer the result is, one number or one per dimension.
        kernel_size: K, odd; the neighbours of a source that are summed. K^n weights per fine position: take 3 in 3D.
        embedding: channels that the features are compressed to before kernels are predicted.
        content_kernel: odd; the neighbourhood that a kernel is predicted from.
        renormalise: see `blend`; False is what was published.

    Raises:
        UsageError: an even or unfitting size, naming it.

    >>> import torch
    >>> CARAFE(8)(torch.zeros(1, 8, 4, 6)).shape
    torch.Size([1, 8, 8, 12])
    """

    def __init__(
        self,
        channels: int,
        *,
        dims: int = 2,
        scale: PerAxis = 2,
        kernel_size: PerAxis = 5,
        embedding: int = 64,
        content_kernel: int = 3,
        renormalise: bool = False,
    ) -> None:
        super().__init__()
        layer = conv(dims)
        self.scale, self.kernel_size = per_axis(scale, dims, "scale"), odd(kernel_size, dims, "kernel_size")
        self.renormalise = renormalise
        self.taps = prod(self.kernel_size)
        around = odd(content_kernel, dims, "content_kernel")[0]
        self.channel_compressor = layer(channels, embedding, 1)
        self.content_encoder = layer(embedding, self.taps * prod(self.scale), around, padding=around // 2)
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)  # as published: kernels begin as a mean
        for convolution in (self.channel_compressor, self.content_encoder):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, decoder: Tensor, encoder: Tensor | None = None) -> Tensor:
        """Return (B, C, *fine), fine being `scale` times coarse, or the size of the encoder's feature where given.

        Args:
            decoder: (B, C, *coarse).
            encoder: (B, any, *fine), of which the size alone is read; a fine grid a little larger or smaller than a
                whole multiple, as it comes from halving odd sizes.

        Raises:
            UsageError: sizes that are not the scale apart.
        """
        check_features(decoder, encoder, self.scale)
        logits = shuffled(self.content_encoder(self.channel_compressor(decoder)), self.taps, self.scale)
        if encoder is not None:
            logits = upsample_nearest(logits, encoder.shape[2:])
        return blend(decoder, logits.softmax(1), self.kernel_size, renormalise=self.renormalise)

    def extra_repr(self) -> str:
        """Return what `print` shows of the upsampler."""
        return f"scale={self.scale}, kernel_size={self.kernel_size}"


def shuffled(x: Tensor, channels: int, scale: tuple[int, ...]) -> Tensor:
    """Return (B, channels, *(scale times coarse)) of (B, channels s_1 s_2 .., *coarse): a pixel shuffle over any axes.

    >>> import torch
    >>> shuffled(torch.arange(6).view(1, 6, 1), 2, (3,))
    tensor([[[0, 1, 2],
             [3, 4, 5]]])
    """
    dims, coarse = len(scale), x.shape[2:]
    split = x.reshape(x.shape[0], channels, *scale, *coarse)
    order = [axis for dim in range(dims) for axis in (2 + dims + dim, 2 + dim)]  # each axis, then its parts
    return split.permute(0, 1, *order).reshape(
        x.shape[0], channels, *(size * s for size, s in zip(coarse, scale, strict=True))
    )
