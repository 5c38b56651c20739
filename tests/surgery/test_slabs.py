import pytest
import torch
from torch import nn

from ranp.surgery._slabs import Slabs


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (3, 1, 2, 2, 1), (7, 2, 3, 1, 2), (2, 3, 0, 1, 1)],
)
def test_slabs_give_the_same_as_the_whole(
    dims: int, kernel: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    kinds: list[type[nn.Module]] = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
    layer = kinds[dims - 1](4, 6, kernel, stride, padding, dilation, groups).double()
    values = torch.randn((2, 4, *(13,) * dims), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        with Slabs(limit=500):
            found = layer(values)
        torch.testing.assert_close(found, layer(values), rtol=0, atol=1e-12)


def test_small_and_transposed_convolutions_run_as_they_are() -> None:
    layer = nn.ConvTranspose2d(3, 2, 3).double()
    values = torch.ones((1, 3, 5, 5), dtype=torch.float64)
    with torch.no_grad():
        with Slabs(limit=1):
            found = layer(values)
        assert torch.equal(found, layer(values))
