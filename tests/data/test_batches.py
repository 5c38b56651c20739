import pytest
import torch

from ranp.data._batches import Source, check_patch
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def numbered(index: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    return (torch.full((1, 2), float(index)),), torch.tensor(index)


def test_samples_are_stacked_in_order_and_again_at_each_iteration() -> None:
    source = Source(numbered, batches=2, batch_size=3)
    assert len(source) == 2
    for _ in range(2):
        first, second = source
        assert first[0].shape == (3, 1, 2)
        assert first[1].tolist() == [0, 1, 2]
        assert second[1].tolist() == [3, 4, 5]


def test_several_inputs_make_a_tuple() -> None:
    source = Source(lambda k: ((torch.zeros(1), torch.ones(2)), torch.tensor(k)), batches=1, batch_size=2)
    ((left, right), _) = next(iter(source))
    assert left.shape == (2, 1)
    assert right.shape == (2, 2)


def test_samples_are_drawn_one_batch_at_a_time() -> None:
    drawn: list[int] = []

    def sample(index: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        drawn.append(index)
        return numbered(index)

    next(iter(Source(sample, batches=10**9, batch_size=2)))
    assert drawn == [0, 1]


@pytest.mark.parametrize(("batches", "size", "message"), [(0, 1, "--batches 0"), (1, 0, "--batch-size 0")])
def test_empty_sources_are_refused(batches: int, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Source(numbered, batches, size)


@pytest.mark.parametrize("patch", [(64,), (8, 8, 8, 8), (0, 8)])
def test_patches_have_two_or_three_positive_sizes(patch: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"--patch .*expected two or three positive sizes"):
        check_patch(patch)
