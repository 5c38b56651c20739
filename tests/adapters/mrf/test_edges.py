import math

import pytest
import torch

from ranp.adapters import mrf
from ranp.errors import UsageError
from ranp.kernels.chains import overlap

STEP = torch.zeros(1, 1, 12, 12)
STEP[..., 6:] = 1  # a vertical edge between columns 5 and 6


@pytest.mark.parametrize(("shape", "directions"), [((6, 7), 16), ((3, 4, 5), 26), ((1, 7), 16), ((2, 1, 1), 26)])
@pytest.mark.parametrize("weigh", [mrf.contrast_weights, mrf.canny_weights])
def test_weights_are_tied_in_range_and_one_at_the_border(weigh, shape, directions) -> None:  # type: ignore[no-untyped-def]
    image = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    weights = weigh(image, directions=directions)
    assert weights.shape == (2, directions, *shape)
    assert 0 <= float(weights.min()) <= float(weights.max()) <= 1
    for even, step in enumerate(mrf.steps(directions, len(shape))[::2]):
        neighbours, nodes = overlap(step, shape)
        there, back = weights[:, 2 * even], weights[:, 2 * even + 1]
        assert torch.equal(there[:, *nodes], back[:, *neighbours])
        outside = torch.ones(shape, dtype=torch.bool)
        outside[nodes] = False
        assert bool((there[:, outside] == 1).all())


def test_contrast_of_two_pixels_by_hand() -> None:
    image = torch.tensor([0.0, 2.0]).reshape(1, 1, 1, 2)
    # One pair: beta = 1 / (2 * 4), so its weight is exp(-1/2); 0.1 + 0.9 of that with a floor.
    weight = mrf.contrast_weights(image, floor=0.1)[0, 0, 0, 1]
    assert weight.item() == pytest.approx(0.1 + 0.9 * math.exp(-0.5))
    assert mrf.contrast_weights(image, beta=1.0)[0, 0, 0, 1].item() == pytest.approx(math.exp(-4))


def test_contrast_falls_across_an_edge_only() -> None:
    weights = mrf.contrast_weights(STEP)
    assert bool((weights[0, 0, :, 6] < 0.01).all())
    weights[0, 0, :, 6], weights[0, 1, :, 5] = 1, 1
    assert bool((weights == 1).all())


def test_an_image_without_contrast_weighs_all_edges_alike() -> None:
    assert bool((mrf.contrast_weights(torch.full((1, 2, 3, 3), 7)) == 1).all())
    assert bool((mrf.canny_weights(torch.full((1, 2, 3, 3), 7)) == 1).all())


def test_canny_weights_are_zero_between_an_edge_pixel_and_its_neighbours() -> None:
    weights = mrf.canny_weights(STEP)
    assert weights.unique().tolist() == [0, 1]
    edge = (weights[0, 0, 5] == 0).nonzero().flatten()  # the columns whose left neighbour is on the other side
    assert len(edge) == 2
    assert 5 in range(int(edge[0]) - 1, int(edge[1]) + 1)
    assert bool((weights[0, 0, 2:-2] == weights[0, 0, 5]).all())  # the same in every row away from the border


def test_contrast_has_gradients() -> None:
    image = torch.rand(1, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mrf.contrast_weights(x, directions=8), (image,))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"floor": 2.0}, "floor=2.0"), ({"beta": -1.0}, "beta=-1.0"), ({"directions": 5}, "directions=5")],
)
def test_bad_settings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mrf.contrast_weights(STEP, **options)  # type: ignore[arg-type]


def test_a_flat_tensor_and_a_bad_sigma_are_refused() -> None:
    with pytest.raises(UsageError, match="image: expected"):
        mrf.contrast_weights(torch.zeros(3, 3))
    with pytest.raises(UsageError, match="sigma=0"):
        mrf.canny_weights(STEP, sigma=0)
