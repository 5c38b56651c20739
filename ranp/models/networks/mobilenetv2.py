"""MobileNetV2 with three-dimensional convolutions, for video clips.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018 (https://arxiv.org/abs/1801.04381);
the 3D form is that of Kopuklu et al., "Resource Efficient 3D Convolutional Neural Networks", ICCVW 2019
(https://arxiv.org/abs/1904.02422).
"""

from torch import Tensor, nn

from ranp.models.networks._blocks import conv_norm, scaled
from ranp.models.registry import Preset, register

# (expansion, output channels, blocks, stride of the first block)
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STEM, _HEAD = 32, 1280


class InvertedResidual(nn.Module):
    """Expand 1-wide, filter each channel 3-wide, project 1-wide without activation; add the input where shapes agree.

    Args:
        inputs: channels of the input.
        outputs: channels of the result.
        expansion: width of the middle as a multiple of `inputs`; at 1 there is no expanding layer.
        stride: of the depthwise layer, along all three dimensions.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [conv_norm(3, inputs, hidden, 1), nn.ReLU6(inplace=True)] if expansion != 1 else []
        depthwise = conv_norm(3, hidden, hidden, 3, stride=stride, padding=1, groups=hidden)
        self.layers = nn.Sequential(*expand, depthwise, nn.ReLU6(inplace=True), conv_norm(3, hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T / stride, H / stride, W / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """A strided stem, seven stages of inverted residuals, global average pooling, dropout and one linear layer."""

    def __init__(self, in_channels: int, classes: int, width: float) -> None:
        super().__init__()
        channels = scaled(_STEM, width)
        stem = conv_norm(3, in_channels, channels, 3, stride=(1, 2, 2), padding=1)
        layers: list[nn.Module] = [stem, nn.ReLU6(inplace=True)]
        for expansion, published, blocks, stride in _STAGES:
            for i in range(blocks):
                inputs, channels = channels, scaled(published, width)
                layers.append(InvertedResidual(inputs, channels, expansion, stride if i == 0 else 1))
        head = scaled(_HEAD, width)
        self.features = nn.Sequential(*layers, conv_norm(3, channels, head, 1), nn.ReLU6(inplace=True))
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(head, classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Map (B, in_channels, T, H, W) to logits (B, classes)."""
        pooled = self.features(clip).mean(dim=(2, 3, 4))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


@register(
    "mobilenetv2-3d",
    spatial=(16, 112, 112),
    presets=[Preset("ucf101", {"in_channels": 3, "classes": 101}, ((3, 16, 112, 112),), strength=80.0)],
)
def mobilenetv2_3d(in_channels: int = 3, classes: int = 101, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2-3D of 53 layers; `width` multiplies every channel count."""
    return MobileNetV2(in_channels, classes, width)
