"""Answers for images of any size: what is kept, on which grid, and in how much memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranp.data.geometry import Grid
from ranp.training import Windows, answer
from ranp.training._windows import windowed


def network(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(1, classes, 3, padding=1)


def volume(*shape: int) -> Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("classes", [1, 3])
def test_labels_and_scores_are_those_of_the_whole(tmp_path: Path, classes: int) -> None:
    net, image = network(classes), volume(20, 9, 11)
    with torch.no_grad():
        whole = windowed(image, (8, 8, 8), net, Windows())
        said = answer(image, (8, 8, 8), net, Windows(), "segmentation", keep=("logits", "probabilities"), room=tmp_path)
    logits = torch.cat([torch.zeros_like(whole), whole]) if classes == 1 else whole
    np.testing.assert_array_equal(said.labels, logits.argmax(0).numpy())
    np.testing.assert_array_equal(said.scores["logits"], logits.movedim(0, -1).numpy())
    softmax = logits.softmax(0).movedim(0, -1).numpy()
    np.testing.assert_allclose(said.scores["probabilities"], softmax, atol=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_what_is_a_probability_already_stays_one() -> None:
    net, image = nn.Sequential(network(), nn.Softmax(1)), volume(8, 8, 8)
    with torch.no_grad():
        said = answer(image, (8, 8, 8), net, Windows(), "segmentation", keep=("probabilities",))
        np.testing.assert_allclose(said.scores["probabilities"], net(image[None])[0].movedim(0, -1).numpy(), atol=1e-6)


def test_regions_are_masks() -> None:
    net, image = network(2), volume(9, 8, 8)
    with torch.no_grad():
        said = answer(image, (8, 8, 8), net, Windows(), "regions", keep=("probabilities",))
        whole = windowed(image, (8, 8, 8), net, Windows())
    np.testing.assert_array_equal(said.labels, (whole > 0).numpy())
    np.testing.assert_allclose(said.scores["probabilities"], whole.sigmoid().movedim(0, -1).numpy(), atol=1e-6)


def test_a_resampled_image_is_answered_on_the_grid_it_had() -> None:
    """A ramp is linear, and so is what lies between its voxels: it comes back as it was."""
    own = Grid((21, 10, 8), np.diag([1.0, 1.5, 2.0, 1.0]))
    affine = np.diag([2.0, 1.5, 0.5, 1.0])
    rows, columns, slices = np.indices((11, 10, 32))
    ramp = 2.0 * rows + 10 * 1.5 * columns + 100 * 0.5 * slices
    scores = torch.from_numpy(np.stack([ramp, -ramp])).float()

    def as_it_is(batch: Tensor) -> Tensor:
        return batch

    said = answer(scores, (11, 10, 32), as_it_is, Windows(), "segmentation", keep=("logits",), grid=own, affine=affine)
    x, y, z = np.indices((21, 10, 8))
    expected = np.minimum(1.0 * x, 20) + 10 * 1.5 * y + 100 * np.minimum(2.0 * z, 15.5)
    np.testing.assert_allclose(said.scores["logits"][..., 0], expected, rtol=1e-5)
    assert said.labels.shape == (21, 10, 8)


PEAK = """
import resource, sys, torch
from ranp.training import Windows, answer
torch.set_num_threads(1)
image = torch.zeros(1, int(sys.argv[1]), 64, 64)
def many(batch):
    return batch.expand(-1, 16, -1, -1, -1).contiguous()
with torch.no_grad():
    answer(image[:, :32], (32, 32, 32), many, Windows(), "segmentation")
    said = answer(image, (32, 32, 32), many, Windows(), "segmentation")
assert said.labels.shape == tuple(image.shape[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted in KiB on Linux")
def test_memory_grows_with_image_and_labels_alone() -> None:
    """Scores of 16 classes for the whole volume would take 64 bytes a voxel, image and labels take 5."""
    short, long = (
        int(subprocess.run([sys.executable, "-c", PEAK, str(n)], capture_output=True, text=True, check=True).stdout)
        for n in (256, 2048)
    )
    voxels = (2048 - 256) * 64 * 64
    assert (long - short) * 1024 < 16 * voxels
