from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ranp.adapters.fusion._consistency import (
    LogitConsistency,
    consistent_logits,
    consistent_logits_sparse,
    dense_labels,
)
from ranp.errors import UsageError


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def labels(*shape: int, low: int = 0, high: int = 6) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(1))


def dense(logits: Tensor, superpixels: Tensor) -> Tensor:
    """Eq. 4.14 with S written out."""
    results = []
    for y, row in zip(logits.flatten(2), superpixels.flatten(1), strict=True):
        s = (row.unique()[:, None] == row[None, :]).to(y.dtype)
        results.append((s.T @ torch.diag(1 / s.sum(1)) @ s @ y.T).T)
    return torch.stack(results).view_as(logits)


def test_means_by_hand() -> None:
    logits = torch.tensor([[[1.0, 3, 5, 7], [0, 0, 2, 4]], [[1.0, 2, 3, 6], [0, 0, 0, 8]]])
    maps = torch.tensor([[5, 5, -3, -3], [0, 9, 9, 9]])
    expected = torch.tensor([[[2.0, 2, 6, 6], [0, 0, 3, 3]], [[1.0, 11 / 3, 11 / 3, 11 / 3], [0, 8 / 3, 8 / 3, 8 / 3]]])
    torch.testing.assert_close(consistent_logits(logits, maps), expected)


@pytest.mark.parametrize("sizes", [(24,), (5, 7), (3, 4, 5)])
@pytest.mark.parametrize(("low", "high"), [(0, 6), (-4, 3), (10**12, 10**12 + 5), (-(10**9), 10**9)])
def test_equals_the_matrix_form_for_any_labels(sizes: tuple[int, ...], low: int, high: int) -> None:
    logits, maps = random(3, 4, *sizes), labels(3, *sizes, low=low, high=high)
    torch.testing.assert_close(consistent_logits(logits, maps), dense(logits, maps))
    torch.testing.assert_close(consistent_logits_sparse(logits, maps), dense(logits, maps))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64])
def test_any_integer_type(dtype: torch.dtype) -> None:
    logits, maps = random(2, 3, 6, 6), labels(2, 6, 6)
    torch.testing.assert_close(consistent_logits(logits, maps.to(dtype)), dense(logits, maps))


def test_the_widest_range_there_is() -> None:
    info = torch.iinfo(torch.int64)
    logits, maps = random(2, 3, 8), torch.tensor([[info.min, info.max, 0, 0, info.max, 5, 5, 5], [3] * 8])
    torch.testing.assert_close(consistent_logits(logits, maps), dense(logits, maps))
    torch.testing.assert_close(consistent_logits(logits, maps, ignore=5)[0, :, 5:], logits[0, :, 5:])


@pytest.mark.parametrize("step", [1, 10**9])
def test_labels_unique_over_the_batch_take_no_larger_table(step: int) -> None:
    """As many cells as the fullest image has superpixels, not as many as the whole batch has."""
    maps = (torch.arange(4 * 6).view(4, 6) // 2) * step
    renumbered, count = dense_labels(maps)
    assert count <= 3
    assert renumbered.amin(1).eq(0).all()
    torch.testing.assert_close(consistent_logits(random(4, 2, 6), maps), dense(random(4, 2, 6), maps))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
@pytest.mark.parametrize("settings", [{}, {"count": 4}, {"ignore": 0}])
def test_nothing_in_gives_nothing(shape: tuple[int, ...], settings: dict[str, int]) -> None:
    maps = torch.zeros(shape[0], *shape[2:], dtype=torch.int64)
    assert consistent_logits(torch.zeros(shape), maps, **settings).shape == shape


def test_ignored_labels_of_small_types_do_not_wrap() -> None:
    logits = torch.tensor([[[1.0, 3.0]]])
    maps = torch.tensor([[255, 255]], dtype=torch.uint8)
    assert consistent_logits(logits, maps, ignore=-1).tolist() == [[[2, 2]]]
    assert consistent_logits(logits, maps, ignore=255).tolist() == [[[1, 3]]]


def test_batches_with_different_counts_and_empty_labels() -> None:
    logits = random(3, 2, 4, 4)
    maps = torch.stack((torch.zeros(4, 4), torch.arange(16).view(4, 4), 5 + labels(4, 4, high=2) * 9)).long()
    expected = torch.cat([dense(logits[b : b + 1], maps[b : b + 1]) for b in range(3)])
    torch.testing.assert_close(consistent_logits(logits, maps), expected)
    torch.testing.assert_close(consistent_logits(logits, maps, count=40), expected)
    torch.testing.assert_close(expected[1], logits[1])


@pytest.mark.parametrize("ignore", [-1, 0, 3, 255])
def test_ignored_pixels_keep_their_logits_and_count_nowhere(ignore: int) -> None:
    logits, maps = random(2, 3, 6, 6), labels(2, 6, 6)
    maps = torch.where(labels(2, 6, 6, high=3) == 0, ignore, maps)
    ignored = (maps == ignore).unsqueeze(1).expand_as(logits)
    poisoned = torch.where(ignored, torch.nan, logits)
    result = consistent_logits(poisoned, maps, ignore=ignore)
    assert result[ignored].isnan().all()
    for b in range(2):
        for label in maps[b].unique():
            member = maps[b] == label
            if label != ignore:
                mean = logits[b][:, member].mean(1, keepdim=True)
                torch.testing.assert_close(result[b][:, member], mean.expand(-1, int(member.sum())))
    torch.testing.assert_close(consistent_logits(logits, maps, ignore=ignore)[ignored], logits[ignored])


def test_a_map_of_ignored_pixels_only_changes_nothing() -> None:
    logits = random(1, 2, 3, 3)
    maps = torch.full((1, 3, 3), -7)
    assert torch.equal(consistent_logits(logits, maps, ignore=-7), logits)
    assert torch.equal(consistent_logits(logits, maps, count=4, ignore=-7), logits)


@pytest.mark.parametrize("ignore", [None, 2])
def test_gradients(ignore: int | None) -> None:
    logits = random(2, 3, 4, 3).requires_grad_()
    maps = labels(2, 4, 3, high=4)
    assert torch.autograd.gradcheck(lambda y: consistent_logits(y, maps, ignore=ignore), (logits,))
    assert torch.autograd.gradgradcheck(lambda y: consistent_logits(y, maps, ignore=ignore), (logits,))


def test_half_sums_in_single_precision() -> None:
    logits, maps = torch.ones(1, 1, 128, 128, dtype=torch.bfloat16), torch.zeros(1, 128, 128, dtype=torch.int64)
    result = consistent_logits(logits, maps)
    assert result.dtype == torch.bfloat16
    assert (result == 1).all()  # a bfloat16 sum of ones stops at 256


def test_static_form_runs_without_values() -> None:
    logits = torch.empty(2, 3, 8, 8, device="meta")
    maps = torch.empty(2, 8, 8, device="meta", dtype=torch.int64)
    result = consistent_logits(logits, maps, count=9)
    assert result.shape == (2, 3, 8, 8)


def test_module_equals_function() -> None:
    logits, maps = random(2, 3, 6, 6), labels(2, 6, 6)
    module = LogitConsistency(count=6, ignore=2)
    assert torch.equal(module(logits, maps), consistent_logits(logits, maps, count=6, ignore=2))


@pytest.mark.parametrize("function", [consistent_logits, consistent_logits_sparse])
def test_maps_of_another_size_or_type_are_refused(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits = torch.zeros(2, 3, 8, 8)
    with pytest.raises(UsageError, match=r"expected shape \(2, 8, 8\).*received \(2, 8, 4\)"):
        function(logits, torch.zeros(2, 8, 4, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"expected integer labels, received torch.float32"):
        function(logits, torch.zeros(2, 8, 8))


def test_labels_outside_the_stated_count_are_refused() -> None:
    logits = torch.zeros(1, 1, 2, 2)
    with pytest.raises(UsageError, match=r"expected labels in 0 \.\. 3, received -1 \.\. 2"):
        consistent_logits(logits, torch.tensor([[[-1, 0], [1, 2]]]), count=4)
    with pytest.raises(UsageError, match=r"received 0 \.\. 4"):
        consistent_logits(logits, torch.tensor([[[4, 0], [1, 2]]]), count=4)
