import pytest
import torch

from ranp.adapters import mrf
from ranp.errors import UsageError


def test_costs_of_one_row_by_hand() -> None:
    left = torch.tensor([10, 20, 40]).reshape(1, 1, 1, 3)
    right = torch.tensor([20, 41, 41]).reshape(1, 1, 1, 3)
    cost = mrf.birchfield_tomasi(left, right, 2)
    # Half-way values: left 15, 30, right 30, 41; reaches left 10..15, 15..30, 30..40, right 20..30, 30..41, 41..41.
    # d = 0, x = 0: centre 10 is 10 below 20..30, and 20 is 5 above 10..15: 5.
    # x = 1: 20 is 10 below 30..41; 41 is 11 above 15..30: 10. x = 2: 40 is 1 below 41..41; 41 is 1 above 30..40: 1.
    # d = 1: x = 0 has no partner: 255. x = 1 with 0: 20 in 20..30: 0. x = 2 with 1: 40 in 30..41: 0.
    assert cost[0, :, 0].tolist() == [[5, 10, 1], [255, 0, 0]]


def test_channels_add_up_and_more_disparities_than_columns_are_all_outside() -> None:
    left = torch.randint(0, 256, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    cost = mrf.birchfield_tomasi(left, left, 7)
    assert cost.shape == (2, 7, 4, 5)
    assert bool((cost[:, 0] == 0).all())
    assert bool((cost[:, 5:] == 765).all())
    parts = sum(mrf.birchfield_tomasi(left[:, c : c + 1], left[:, c : c + 1], 7) for c in range(3))
    assert torch.equal(cost, torch.as_tensor(parts))


def test_soft_argmin_is_the_mean_label_and_nears_the_argmin() -> None:
    cost = torch.tensor([0.0, 0.0, 50.0]).reshape(1, 3, 1, 1)
    assert mrf.soft_argmin(cost).item() == pytest.approx(0.5)
    cost = torch.rand(1, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    sharp = mrf.soft_argmin(cost, temperature=1e-4)
    torch.testing.assert_close(sharp, cost.argmin(1).float(), atol=0.1, rtol=0)


def test_what_does_not_fit_is_refused() -> None:
    image = torch.zeros(1, 1, 2, 3)
    with pytest.raises(UsageError, match="labels=0"):
        mrf.birchfield_tomasi(image, image, 0)
    with pytest.raises(UsageError, match="of one shape, got"):
        mrf.birchfield_tomasi(image, image[..., :2], 3)
    with pytest.raises(UsageError, match="temperature=0"):
        mrf.soft_argmin(image, 0)
