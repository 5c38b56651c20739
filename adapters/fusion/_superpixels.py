"""Where superpixel maps come from: SLIC by default, or a network that predicts associations to a grid.

SLIC is Achanta et al., 2012, in scikit-image's implementation, for 2D and 3D images. It is registered as the op
`ranp::slic`, so that a network with it inside can be traced: an op that reads the image and gives integers.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ranp.adapters.fusion._association import Grid, hard_assignment
from ranp.errors import UsageError, named, need


class SlicSuperpixels(nn.Module):
    """SLIC maps of images (B, C, H, W) or (B, C, D, H, W) -> (B, ...) int64 labels, in each batch element from 0.

    Not differentiable, and computed on the CPU. Images are scaled to their own range first, channels are taken as they
    are (no conversion to Lab).

    Args:
        segments: about how many superpixels.
        compactness: weight of positions against colours; colours are scaled to [0, 1].

    Raises:
        UsageError: fewer than 1 segment, or a compactness that is not positive.
        MissingExtra: scikit-image is not installed (when it runs).
    """

    def __init__(self, segments: int = 500, compactness: float = 0.1) -> None:
        super().__init__()
        if segments < 1 or not compactness > 0:
            raise UsageError(
                f"{named('segments', segments)}, {named('compactness', compactness)}: expected at least 1, and above 0"
            )
        self.segments = segments
        self.compactness = compactness

    def forward(self, image: Tensor) -> Tensor:
        """Return the superpixel map of every image."""
        maps: Tensor = slic_maps(image, self.segments, self.compactness)
        return maps


class GridSuperpixels(nn.Module):
    """A superpixel network and the map its associations mean: image -> (B, ...) labels 0 .. number of cells - 1.

    Args:
        network: image -> scores (B, 3^n, ...) as `association` describes them.
        interval: D in pixels, as the network was trained with.

    Raises:
        UsageError: an interval below 1; when it runs, scores of another number of channels than 3^n.
    """

    def __init__(self, network: nn.Module, interval: int = 16) -> None:
        super().__init__()
        if interval < 1:
            raise UsageError(f"{named('interval', interval)}: expected at least 1 pixel")
        self.network = network
        self.interval = interval

    def forward(self, image: Tensor) -> Tensor:
        """Return the superpixel map of every image. No gradient flows back: `association_loss` trains the network."""
        return hard_assignment(self.network(image), self.interval)

    def count(self, sizes: tuple[int, ...]) -> int:
        """Return the number of cells over an image of these sizes."""
        return Grid(sizes, self.interval).count


@torch.library.custom_op("ranp::slic", mutates_args=())
def slic_maps(image: Tensor, segments: int, compactness: float) -> Tensor:
    """Segment every image of a batch (B, C, ...) by SLIC; int64 labels (B, ...), from 0 in each.

    Args:
        image: floating, two or three spatial dimensions.
        segments: about how many superpixels.
        compactness: weight of positions against colours scaled to [0, 1].
    """
    segmentation = need("skimage.segmentation", "mrf")
    maps = [
        segmentation.slic(_unit_range(one), segments, compactness, channel_axis=-1, start_label=0, convert2lab=False)
        for one in image.detach().double().movedim(1, -1).cpu().numpy()
    ]
    return torch.from_numpy(np.stack(maps).astype(np.int64)).to(image.device)


@slic_maps.register_fake
def _slic_shape(image: Tensor, segments: int, compactness: float) -> Tensor:
    return image.new_empty((image.shape[0], *image.shape[2:]), dtype=torch.int64)


def _unit_range(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)
