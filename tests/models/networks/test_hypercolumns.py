"""The sum of each level's scores is the classifier of all levels one behind the other."""

import pytest
import torch
import torch.nn.functional as F

from ranp import models


def image(*shape: int) -> torch.Tensor:
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("taps", [(2, 4, 6), (1, 2, 3, 4, 5), (3,)])
def test_summed_is_concatenated(taps: tuple[int, ...]) -> None:
    network = models.build("hypercolumns", width=2, hidden=8, classes=3, taps=taps).double().eval()
    x = image(33, 40)
    features, deeper = [], x
    for number, level in enumerate(network.levels, start=1):
        deeper = level(deeper)
        if number in taps:
            features.append(F.interpolate(deeper, size=(33, 40), mode="bilinear"))
    column = torch.cat(features, dim=1)
    weight = torch.cat([classifier.weight for classifier in network.classifiers], dim=1)
    expected = F.conv2d(column, weight, network.classifiers[0].bias)
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-12)


def test_a_column_is_as_high_as_published() -> None:
    with torch.device("meta"):
        network = models.build("hypercolumns")
    assert sum(classifier.in_channels for classifier in network.classifiers) == 4736
    assert len(models.build("hypercolumns", width=2, hidden=2, taps=[2, 3]).levels) == 3  # nothing runs in vain


def test_a_grid_of_classifiers_is_interpolated_between_the_cells_centres() -> None:
    network = models.build("hypercolumns", width=1, hidden=1, classes=2, grid=3, taps=[1])
    scores = torch.randn(1, 18, 6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cells = scores.view(3, 3, 2, 6, 9)
    expected = torch.zeros(2, 6, 9, dtype=torch.float64)
    for y in range(6):
        for x in range(9):
            down, right = (min(max((place + 0.5) * 3 / size - 0.5, 0), 2) for place, size in ((y, 6), (x, 9)))
            for i in range(3):
                for j in range(3):
                    share = max(1 - abs(down - i), 0) * max(1 - abs(right - j), 0)
                    expected[:, y, x] += share * cells[i, j, :, y, x]
    assert torch.allclose(network._interpolated(scores)[0], expected, rtol=0, atol=1e-12)


def test_equal_classifiers_in_all_cells_are_one() -> None:
    one = models.build("hypercolumns", width=2, hidden=8, classes=3, taps=[1, 2], seed=1).double().eval()
    many = models.build("hypercolumns", width=2, hidden=8, classes=3, taps=[1, 2], grid=3, seed=1).double().eval()
    many.levels.load_state_dict(one.levels.state_dict())
    for few, nine in zip(one.classifiers, many.classifiers, strict=True):
        nine.weight.data = few.weight.data.repeat(9, 1, 1, 1)
        if few.bias is not None:
            nine.bias.data = few.bias.data.repeat(9)
    x = image(20, 22)
    assert torch.allclose(many(x), one(x), rtol=0, atol=1e-12)
