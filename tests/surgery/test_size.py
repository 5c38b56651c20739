"""The proof is made at the smallest input on which the network does what it does on the whole one."""

import pytest
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

import ranp
from ranp.surgery import compared_at


def unet(norm: str) -> nn.Module:
    torch.manual_seed(0)
    return UNet(2, 1, 2, channels=(4, 8, 8, 8), strides=(2, 2, 2), norm=norm)


class Attending(nn.Module):
    """Attends between the pixels of an image that was halved twice."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.key, self.out = nn.Conv2d(1, 8, 4, stride=4), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.down(x)
        key = self.key(x).flatten(2)
        weights = (x.flatten(2).mT @ key).softmax(-1)
        return self.out((key @ weights.mT).view_as(x))


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Conv2d(1, 2, 3, padding=1), (1, 1, 64, 64), (1, 1, 4, 4)),
        (nn.Conv2d(1, 2, 3, padding=1), (5, 1, 64, 64), (2, 1, 4, 4)),
        (unet("batch"), (1, 1, 64, 64), (1, 1, 8, 8)),  # three halvings
        (unet("instance"), (1, 1, 64, 64), (1, 1, 16, 16)),  # and four elements for the last statistic
        (unet("batch"), (1, 1, 96, 48), (1, 1, 8, 8)),
        (unet("batch"), (1, 1, 40, 24), (1, 1, 8, 8)),
        (Attending(), (1, 1, 64, 64), (1, 1, 8, 8)),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 2)), (1, 1, 32, 32), (1, 1, 32, 32)),
        (nn.Conv2d(1, 2, 3), (1, 1, 6, 6), (1, 1, 6, 6)),  # small as it is
    ],
)
def test_smallest(model: nn.Module, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert tuple(compared_at(model.eval(), torch.zeros(shape)).shape) == expected


def test_prune_says_where_it_compared() -> None:
    net, example = unet("batch"), torch.zeros(1, 1, 64, 64)
    result = ranp.prune(net, example, method="l1", sparsity=0.3)
    assert result.report.verify.compared_input == [[1, 1, 8, 8]]
    assert "of 1x1x8x8" in result.report.verify.words
    wanted = ranp.prune(net, example, method="l1", sparsity=0.3, verify_input=32)
    assert wanted.report.verify.compared_input == [[1, 1, 32, 32]]
    assert wanted.report.verify.passed
    again = ranp.verify(net, result.slim, result.plan, example, verify_input=(64, 16))
    assert again.compared_input == [[1, 1, 64, 16]]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (12, "verify_input=12: the network does not do there what it does on 64x64; .* it does: 8x8"),
        ((8, 8, 8), "expected 2 spatial dimensions"),
        ("big", "expected a size such as"),
        (0, "expected a size such as"),
    ],
)
def test_a_size_that_is_none_is_refused_before_scoring(size: object, said: str) -> None:
    def batches() -> list[object]:
        raise AssertionError("scored")

    with pytest.raises(ranp.UsageError, match=said):
        ranp.prune(
            unet("batch"), torch.zeros(1, 1, 64, 64), batches=iter(batches, None), loss=nn.functional.mse_loss,
            sparsity=0.3, verify_input=size,
        )  # fmt: skip


class TwoSizes(nn.Module):
    """Takes an image, and one of half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(1, 8, 3, 1, 1), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor, half: Tensor, mask: Tensor) -> Tensor:
        """Run it."""
        return self.c((self.a(image) + self.b(half)).relu() * mask)


def test_inputs_shrink_together_and_whole_numbers_are_cut() -> None:
    mask = torch.ones(1, 1, 32, 32, dtype=torch.long)
    inputs = {"image": torch.zeros(1, 1, 64, 64), "half": torch.zeros(1, 1, 32, 32), "mask": mask}
    small = compared_at(TwoSizes(), inputs)
    assert [tuple(each.shape) for each in small.values()] == [(1, 1, 8, 8), (1, 1, 4, 4), (1, 1, 4, 4)]
    assert small["mask"].sum() == 16
    assert ranp.prune(TwoSizes(), inputs, method="l1", sparsity=0.3).report.verify.passed
