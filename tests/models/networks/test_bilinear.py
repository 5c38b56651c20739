"""The filter of FCN's upsampling against its published values, and against interpolation."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ranp.models.networks._bilinear import BilinearUpsampling, bilinear_filter, learned_bilinear

FIXTURE = Path(__file__).parents[3].parent / "shared" / "fixtures" / "dense" / "slides_ops.npz"
MODES = ("linear", "bilinear", "trilinear")


def test_the_filter_by_hand() -> None:
    assert bilinear_filter(1, 2).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert torch.allclose(bilinear_filter(1, 3), torch.tensor([1, 2, 3, 2, 1]) / 3)
    square = bilinear_filter(2, 2)
    assert torch.equal(square, torch.outer(bilinear_filter(1, 2), bilinear_filter(1, 2)))


@pytest.mark.skipif(not FIXTURE.is_file(), reason="needs the reference values beside the checkout")
def test_the_filter_and_what_it_makes_are_the_references() -> None:
    stored = np.load(FIXTURE)
    for factor in (8, 16, 32):
        expected = torch.from_numpy(stored[f"fcn_filter_f{factor}_1d"])
        assert torch.allclose(bilinear_filter(1, factor).double(), expected, rtol=0, atol=1e-6)
    small = torch.from_numpy(stored["up_z"])[None, None]
    layer = BilinearUpsampling(2, 1, 2, padding=1).double()
    assert torch.equal(layer.weight[0, 0], torch.from_numpy(stored["up_f4"]))
    assert torch.allclose(layer(small)[0, 0], torch.from_numpy(stored["up_f4_out"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_it_interpolates_inside_and_darkens_the_border(dims: int, factor: int) -> None:
    x = torch.rand(2, 3, *(4, 5, 3)[:dims], generator=torch.Generator().manual_seed(0))
    layer = BilinearUpsampling(dims, 3, factor, padding=factor // 2)
    assert torch.allclose(layer.weight.sum((1, *range(2, 2 + dims))), torch.full((3,), float(factor**dims)))
    out = layer(x)
    expected = F.interpolate(x, scale_factor=factor, mode=MODES[dims - 1], align_corners=False)
    assert out.shape == expected.shape
    inside = (slice(None), slice(None), *[slice(factor, factor * (n - 1)) for n in x.shape[2:]])
    assert torch.allclose(out[inside], expected[inside], atol=1e-6)
    corner = (0, 0, *[0] * dims)
    assert out[corner] < expected[corner]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_learned_one_starts_as_the_fixed_one(dims: int) -> None:
    x = torch.rand(1, 3, *(4, 5, 3)[:dims], generator=torch.Generator().manual_seed(0))
    learned = learned_bilinear(dims, 3, 4)
    assert torch.allclose(learned(x), BilinearUpsampling(dims, 3, 4)(x), atol=1e-6)
    assert sum(p.numel() for p in learned.parameters()) == 9 * 8**dims
