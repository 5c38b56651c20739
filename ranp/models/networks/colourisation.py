"""Colours for a grey image: a distribution over the colours there are, at each pixel.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016 (https://arxiv.org/abs/1603.08511): eight blocks of
dilated convolutions, strided instead of pooled, that give 313 scores at a quarter of the resolution. The scores are of
squares, 10 wide, of the plane of the colours a and b of CIELAB. The authors' table of those has all that hold a colour
of sRGB, which by our count are 261, and their rim.

Differs from the paper: the scores are upsampled to the image, so that the network is trained and judged as any other
dense one.
"""

import torch
from torch import Tensor, nn

from ranp.models.networks._blocks import resized
from ranp.models.registry import register

# of each block: width in units of the first, convolutions, stride of the last, dilation
_BLOCKS = ((1, 2, 2, 1), (2, 2, 2, 1), (4, 3, 2, 1), (8, 3, 1, 1), (8, 3, 1, 2), (8, 3, 1, 2), (8, 3, 1, 1))
# first and last b of the squares of each a, as the authors' table (pts_in_hull) has them
_COLOURS = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100), -40: (-40, 100), -30: (-50, 100),
    -20: (-50, 100), -10: (-60, 100), 0: (-70, 100), 10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90),
    50: (-100, 80), 60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip
_TEMPERATURE = 0.38
_UNIFORM = 0.5  # lambda: how far weights of classes go from those of their frequency to equal ones


class Colourisation(nn.Module):
    """Seven blocks of convolutions, each ending in batch norm, an upsampled eighth, and the scores.

    Args:
        in_channels: channels of the image, published 1: its lightness.
        classes: colours that are told apart, published 313.
        width: of the first block, published 64.
    """

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = in_channels
        for times, count, stride, dilation in _BLOCKS:
            for i in range(count):
                step = stride if i == count - 1 else 1
                layers.append(nn.Conv2d(inputs, times * width, 3, step, padding=dilation, dilation=dilation))
                layers.append(nn.ReLU(inplace=True))
                inputs = times * width
            layers.append(nn.BatchNorm2d(inputs))
        layers += [nn.ConvTranspose2d(inputs, 4 * width, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        for _ in range(2):
            layers += [nn.Conv2d(4 * width, 4 * width, 3, padding=1), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(4 * width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map lightness (B, in_channels, H, W) to logits (B, classes, H, W)."""
        return resized(self.classifier(self.features(image)), image.shape[2:])


def colours() -> Tensor:
    """The centres (313, 2) of the squares in a and b, sorted; float64."""
    rows = [(a, b) for a, (first, last) in _COLOURS.items() for b in range(first, last + 1, 10)]
    return torch.tensor(rows, dtype=torch.float64)


def soft_labels(ab: Tensor, neighbours: int = 5, spread: float = 5.0) -> Tensor:
    """The distribution that stands for a colour: its nearest squares, weighed by a Gaussian of their distance.

    Args:
        ab: (B, 2, H, W).
        neighbours: squares that share in it.
        spread: standard deviation of the Gaussian.

    Returns:
        (B, 313, H, W), which sums to 1 at each pixel.
    """
    centres = colours().to(ab)
    apart = torch.cdist(ab.movedim(1, -1).flatten(0, 2), centres)  # (B H W, 313)
    nearest, places = apart.topk(neighbours, dim=1, largest=False)
    share = (-nearest.square() / (2 * spread**2)).softmax(dim=1)
    labels = torch.zeros_like(apart).scatter_(1, places, share)
    return labels.view(ab.shape[0], *ab.shape[2:], -1).movedim(-1, 1)


def rebalanced(frequency: Tensor) -> Tensor:
    """Weights of classes that rare colours are learned with, (classes,): one on average over the pixels.

    Args:
        frequency: of each class among pixels, (classes,), which sums to 1; smoothed by the caller if at all.
    """
    weights = 1 / ((1 - _UNIFORM) * frequency + _UNIFORM / frequency.numel())
    return weights / (frequency * weights).sum()


def rebalanced_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy with soft labels, each pixel weighed by its likeliest class.

    Args:
        logits: (B, classes, H, W).
        labels: distributions of the same shape.
        weights: (classes,), as `rebalanced` gives them.
    """
    entropy = -(labels * logits.log_softmax(dim=1)).sum(1)  # (B, H, W)
    return (weights[labels.argmax(dim=1)] * entropy).mean()


def annealed_mean(logits: Tensor, temperature: float = _TEMPERATURE) -> Tensor:
    """Colours of scores: the mean of a sharpened distribution, between its mode (0) and its mean (1).

    Args:
        logits: (B, 313, H, W).
        temperature: above 0.

    Returns:
        a and b, (B, 2, H, W).
    """
    share = (logits / temperature).softmax(dim=1)
    return torch.einsum("bchw,cx->bxhw", share, colours().to(logits))


@register("colourisation", spatial=(224, 224))
def colourisation(in_channels: int = 1, classes: int = 313, width: int = 64) -> Colourisation:
    """Colours for grey images, as scores of 313 squares of colours; `width` is that of the first block."""
    return Colourisation(in_channels, classes, width)
