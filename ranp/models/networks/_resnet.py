"""ResNet-50 as a backbone: four stages of bottleneck blocks, dilated instead of strided where asked.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (https://arxiv.org/abs/1512.03385). The stride is
in the 3-wide convolution of a block, as in the later common form.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ranp.models.networks._blocks import conv_norm

EXPANSION = 4
_BLOCKS = (3, 4, 6, 3)


class Bottleneck(nn.Module):
    """Reduce 1-wide, filter 3-wide, expand 1-wide, add, ReLU.

    Args:
        inputs: channels of the input.
        width: channels of the middle; the result has four times as many.
        stride: of the 3-wide convolution.
        dilation: of the 3-wide convolution.
        project: pass the shortcut through a 1-wide convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1, *, project: bool = False) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.reduce = conv_norm(2, inputs, width, 1)
        self.filter = conv_norm(2, width, width, 3, stride=stride, padding=dilation, dilation=dilation)
        self.expand = conv_norm(2, width, outputs, 1)
        self.shortcut = conv_norm(2, inputs, outputs, 1, stride=stride) if project else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 width, H / stride, W / stride)."""
        out = self.relu(self.reduce(x))
        out = self.relu(self.filter(out))
        out = self.expand(out) + (x if self.shortcut is None else self.shortcut(x))
        activated: Tensor = self.relu(out)
        return activated


class ResNet50(nn.Module):
    """The convolutional part of ResNet-50.

    Args:
        in_channels: channels of the image.
        width: of the stem, published 64; stage i gives 4 * width * 2^i channels.
        strides: of the four stages; 2 halves the resolution.
        dilations: of the blocks of each stage, repeated to the stage's length.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[Sequence[int]] = ((1,), (1,), (1,), (1,)),
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(2, in_channels, width, 7, stride=2, padding=3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        inputs = width
        for i, blocks in enumerate(_BLOCKS):
            stage = []
            for j in range(blocks):
                dilation = dilations[i][j % len(dilations[i])]
                stage.append(Bottleneck(inputs, width * 2**i, 1 if j else strides[i], dilation, project=j == 0))
                inputs = EXPANSION * width * 2**i
            self.stages.append(nn.Sequential(*stage))
        self.widths = [EXPANSION * width * 2**i for i in range(len(_BLOCKS))]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (B, in_channels, H, W) to the four stages' features, (B, 4 width, H / 4, W / 4) first."""
        x, features = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
