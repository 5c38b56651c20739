import itertools

import pytest
import torch
from torch import Tensor

from ranp.adapters.fusion._association import Grid, association_loss, hard_assignment, reconstruct, soft_assignment
from ranp.errors import UsageError


def scores(batch: int, *sizes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3 ** len(sizes), *sizes, generator=generator, dtype=dtype)


def loop_assignment(values: Tensor, interval: int) -> Tensor:
    """q as a full (P, cells) matrix of one image, straight from the definition."""
    _, height, width = values.shape
    rows, columns = -(-height // interval), -(-width // interval)
    q = torch.zeros(height * width, rows * columns, dtype=values.dtype)
    for y, x in itertools.product(range(height), range(width)):
        near = {}
        for k, (dy, dx) in enumerate(itertools.product((-1, 0, 1), repeat=2)):
            i, j = y // interval + dy, x // interval + dx
            if 0 <= i < rows and 0 <= j < columns:
                near[i * columns + j] = values[k, y, x]
        shares = torch.stack(list(near.values())).softmax(0)
        q[y * width + x, list(near)] = shares
    return q


@pytest.mark.parametrize(("height", "width", "interval"), [(8, 8, 4), (7, 10, 3), (5, 4, 8)])
def test_pooling_and_loss_equal_the_definition(height: int, width: int, interval: int) -> None:
    s = scores(2, height, width)
    colours = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        q = loop_assignment(s[b], interval)
        grid = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
        for f, weight in ((colours[b].flatten(1).T, 1.0), (grid, 0.5 / interval)):
            u = (q.T @ f) / q.sum(0)[:, None]
            expected = expected + weight * (f - q @ u).norm(dim=1).sum()
    torch.testing.assert_close(association_loss(s, colours, interval, 0.5), expected)


def test_cross_entropy_equals_the_definition_and_ignores() -> None:
    s = scores(1, 6, 6)
    labels = torch.randint(0, 3, (1, 6, 6), generator=torch.Generator().manual_seed(1))
    labels[0, :2, :3] = 255
    used = (labels != 255).flatten()
    q = loop_assignment(s[0], 3) * used[:, None]
    onehot = torch.nn.functional.one_hot(torch.where(used, labels.flatten(), 0), 3).double() * used[:, None]
    grid = torch.cartesian_prod(torch.arange(6), torch.arange(6)).double()
    rebuilt, moved = (q @ ((q.T @ f) / q.sum(0)[:, None]) for f in (onehot, grid))
    expected = -(onehot * rebuilt.clamp(min=1e-8).log()).sum() + 0.003 / 3 * ((grid - moved).norm(dim=1) * used).sum()
    loss = association_loss(s, labels, 3, classes=3, ignore=255)
    torch.testing.assert_close(loss, expected)
    mean = association_loss(s, labels, 3, classes=3, ignore=255, reduction="mean")
    torch.testing.assert_close(mean, expected / used.sum())


@pytest.mark.parametrize("sizes", [(7,), (6, 7), (4, 5, 6)])
def test_shares_sum_to_one_and_constants_survive_in_any_dims(sizes: tuple[int, ...]) -> None:
    s = scores(2, *sizes)
    grid = Grid(sizes, 2)
    q = soft_assignment(s, grid)
    torch.testing.assert_close(q.sum(1), torch.ones_like(q[:, 0]))
    constant = torch.full_like(q[:, :1], 3.0)
    torch.testing.assert_close(reconstruct(constant, q, grid), constant)


def test_hard_assignment_picks_the_cell_of_the_largest_share() -> None:
    s = scores(2, 7, 10)
    expected = torch.stack([loop_assignment(one, 3).argmax(1).view(7, 10) for one in s])
    assert torch.equal(hard_assignment(s, 3), expected)


def test_gradients() -> None:
    s = scores(1, 3, 4).requires_grad_()
    colours = torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = torch.randint(0, 3, (1, 3, 4), generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: association_loss(x, colours, 2, 0.1), (s,))
    assert torch.autograd.gradcheck(lambda x: association_loss(x, labels, 2, classes=3), (s,))


def test_training_on_the_loss_finds_the_edge() -> None:
    labels = (torch.arange(12) >= 5).long().expand(1, 12, 12)
    s = torch.zeros(1, 9, 12, 12, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.3)
    first = association_loss(s, labels, 4, classes=2, reduction="mean").item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = association_loss(s, labels, 4, classes=2, reduction="mean")
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 3
    maps = hard_assignment(s.detach(), 4)
    assert all(len(labels[maps == cell].unique()) == 1 for cell in maps.unique())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_scores_are_pooled_in_single_precision(dtype: torch.dtype) -> None:
    """Positions beyond 256 are no bfloat16 numbers."""
    s = scores(1, 4, 600).to(dtype)
    colours = torch.rand(1, 3, 4, 600, generator=torch.Generator().manual_seed(1))
    loss = association_loss(s, colours, 16, 1.0)
    torch.testing.assert_close(loss, association_loss(s.float(), colours, 16, 1.0))
    assert association_loss(s.float(), colours.double(), 16, 1.0).dtype == torch.float64


def test_mistakes_are_one_line() -> None:
    s = scores(1, 6, 6)
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    with pytest.raises(UsageError, match="9 channels in 2D"):
        hard_assignment(s[:, :8], 3)
    with pytest.raises(UsageError, match="interval=0"):
        hard_assignment(s, 0)
    with pytest.raises(UsageError, match="classes: needed"):
        association_loss(s, labels, 3)
    with pytest.raises(UsageError, match=r"expected labels in 0 \.\. 1, received -1 \.\. -1"):
        association_loss(s, labels - 1, 3, classes=2)
    with pytest.raises(UsageError, match=r"expected sizes \(1, 6, 6\)"):
        association_loss(s, labels[:, :5], 3, classes=2)
    with pytest.raises(UsageError, match="compactness=-1"):
        association_loss(s, labels, 3, -1, classes=2)
    with pytest.raises(UsageError, match="reduction='none'"):
        association_loss(s, labels, 3, classes=2, reduction="none")
