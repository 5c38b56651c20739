import pytest
import torch
from torch import nn

from ranp.adapters.fusion._association import hard_assignment
from ranp.adapters.fusion._superpixels import GridSuperpixels, SlicSuperpixels, slic_maps
from ranp.errors import UsageError


@pytest.mark.parametrize("sizes", [(24, 30), (8, 12, 10)])
def test_slic_separates_two_halves_in_2d_and_3d(sizes: tuple[int, ...]) -> None:
    image = torch.zeros(2, 1, *sizes)
    image[0, ..., sizes[-1] // 2 :] = 1
    image[1, 0, sizes[0] // 2 :] = 500  # any range of values
    maps = SlicSuperpixels(segments=12)(image)
    assert maps.shape == (2, *sizes)
    assert maps.dtype == torch.int64
    for one, labels in zip(image[:, 0], maps, strict=True):
        assert labels.min() == 0
        assert 2 <= labels.max() < 40
        assert all(len(one[labels == label].unique()) == 1 for label in labels.unique())


def test_slic_is_an_op_that_can_be_faked() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.library.opcheck(slic_maps, (image, 10, 0.1))
    assert slic_maps(torch.empty(2, 3, 8, 9, device="meta"), 10, 0.1).shape == (2, 8, 9)


def test_grid_superpixels_are_the_networks_best_cells() -> None:
    network = nn.Conv2d(3, 9, 3, padding=1)
    image = torch.rand(2, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    superpixels = GridSuperpixels(network, 4)
    maps = superpixels(image)
    assert torch.equal(maps, hard_assignment(network(image), 4))
    assert superpixels.count((10, 12)) == 9
    assert 0 <= int(maps.min()) <= int(maps.max()) < 9


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="segments=0"):
        SlicSuperpixels(segments=0)
    with pytest.raises(UsageError, match="compactness=0"):
        SlicSuperpixels(compactness=0)
    with pytest.raises(UsageError, match="interval=0"):
        GridSuperpixels(nn.Identity(), 0)
