"""The sources that draw their samples: phantoms, stereo pairs, pink noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ranp import data
from ranp.data._noise import pink
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def first(source: data.Source) -> tuple[Tensor | tuple[Tensor, ...], Tensor]:
    return next(iter(source))


@pytest.mark.parametrize("patch", [(16, 24, 32), (4, 4, 4), (16, 20), (8, 40, 40)])
def test_phantoms(patch: tuple[int, ...]) -> None:
    image, labels = first(data.phantom(patch, channels=2, classes=3, batch_size=4))
    assert image.shape == (4, 2, *patch)
    assert image.dtype == torch.float32
    assert labels.shape == (4, *patch)
    assert labels.unique().tolist() == [0, 1, 2]
    assert image.mean().item() == pytest.approx(0, abs=1e-5)
    assert image.std().item() == pytest.approx(1, abs=0.02)


def test_a_phantoms_labels_can_be_read_off_its_intensities() -> None:
    image, labels = first(data.phantom((24, 24, 24), classes=3))
    means = [image[0, 0][labels[0] == label].mean() for label in range(3)]
    assert means[0] < means[1] < means[2]


def test_seeds() -> None:
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    images = [first(data.phantom((8, 8), seed=seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "--classes 1"),
        ({"channels": 0}, "--in-channels 0"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"spatial_dims": 3}, "--patch 8x8: the network takes 3 spatial dimensions"),
    ],
)
def test_phantom_mistakes(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        data.phantom((8, 8), **arguments)


def test_the_left_image_is_the_right_one_shifted_by_the_disparity() -> None:
    (left, right), disparity = first(data.stereo((16, 64), maxdisp=10))
    assert left.shape == right.shape == (1, 3, 16, 64)
    assert left.dtype == right.dtype == disparity.dtype == torch.float32
    assert disparity.shape == (1, 16, 64)
    assert 0 <= disparity.min() < disparity.max() < 10
    for x in (20, 40, 63):
        place = x - disparity[0, 5, x].item()
        low, share = int(place), place - int(place)
        high = min(low + 1, 63)
        expected = (1 - share) * right[0, :, 5, low] + share * right[0, :, 5, high]
        assert torch.allclose(left[0, :, 5, x], expected, atol=1e-3)


def test_stereo_needs_height_and_width() -> None:
    with pytest.raises(UsageError, match="--patch 8x8x8"):
        data.stereo((8, 8, 8))


def test_random_like_a_classifier_and_a_segmenter_of_half_the_size() -> None:
    clip, label = first(data.random_like([(3, 4, 16, 16)], (5,), batch_size=3))
    assert clip.shape == (3, 3, 4, 16, 16)
    assert label.shape == (3,)
    assert 0 <= label.min() <= label.max() < 5
    _, labels = first(data.random_like([(1, 16, 16)], (4, 8, 8)))
    assert labels.shape == (1, 8, 8)
    assert labels.max() < 4


def test_an_output_without_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="no classes"):
        data.random_like([(1, 8, 8)], ())


def test_generated_picks_by_shape() -> None:
    pair, disparity = first(data.generated([(3, 16, 32)] * 2, (16, 32), maxdisp=8))
    assert len(pair) == 2
    assert disparity.dtype == torch.float32
    _, labels = first(data.generated([(1, 8, 8, 8)], (4, 8, 8, 8)))
    assert labels.shape == (1, 8, 8, 8)
    _, label = first(data.generated([(3, 4, 16, 16)], (7,)))
    assert label.shape == (1,)


def test_pink_noise_falls_with_frequency() -> None:
    noise = pink((1, 256, 256), np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(1, abs=1e-5)
    power = np.abs(np.fft.fft(noise[0], axis=1)).mean(axis=0)
    assert power[4] > 1.5 * power[16] > 2 * power[64]


def test_whole_numbers_and_vectors_among_the_inputs() -> None:
    shapes, below = [(1, 8, 8), (64,), (), (5,)], (None, 10, 7, None)
    source = data.generated(shapes, (3, 8, 8), batches=2, batch_size=40, seed=1, below=below)
    (image, ids, step, vector), labels = next(iter(source))
    assert [tuple(part.shape[1:]) for part in (image, ids, step, vector)] == shapes
    assert [part.dtype for part in (image, ids, step, vector)] == [
        torch.float32,
        torch.int64,
        torch.int64,
        torch.float32,
    ]
    assert ids.unique().tolist() == list(range(10))
    assert step.unique().tolist() == list(range(7))
    assert 0.8 < vector.std() < 1.2
    assert labels.shape == (40, 8, 8)
    again = next(iter(data.random_like(shapes, (3, 8, 8), 1, 40, 1, below=below)))[0]
    assert all(map(torch.equal, (image, ids, step, vector), again))


def test_a_source_names_its_inputs_and_has_them_in_a_dtype() -> None:
    source = data.random_like([(1, 4, 4), (2, 4, 4)], (3,), 1, 2)
    named = replace(source, names=("left", "right"), dtypes=(torch.float64, torch.bfloat16))
    inputs, plain = next(iter(named))[0], next(iter(source))[0]
    assert list(inputs) == ["left", "right"]
    assert torch.equal(inputs["left"], plain[0].double())
    assert torch.equal(inputs["right"], plain[1].bfloat16())
    alone = replace(data.random_like([(1, 4, 4)], (3,), 1, 2), names=("image",))
    assert list(next(iter(alone))[0]) == ["image"]


def test_values_have_the_shape_of_the_output() -> None:
    image, target = first(data.generated([(3, 16, 16)], (4, 8, 8), batch_size=2, values=True))
    assert image.shape == (2, 3, 16, 16)
    assert target.shape == (2, 4, 8, 8)
    assert target.dtype == torch.float32
    assert target.unique().numel() > 100
    _, number = first(data.generated([(3, 16, 16)], (2,), values=True))
    assert number.shape == (1, 2)
    assert number.dtype == torch.float32
