"""What follows from network and data together."""

import pytest

from ranp.data.sources import open_source
from ranp.jobs._task import loss_of
from ranp.jobs.options import Prune


@pytest.mark.parametrize(
    ("model", "preset", "output", "word"),
    [
        ("unet3d", None, (3, 8, 8, 8), "ce"),
        ("unet3d", "brats-15", (5, 8, 8, 8), "ce-dice"),
        ("unet3d", None, (1, 8, 8, 8), "bce"),
        ("psm", None, (8, 8), "stereo"),
        ("a:Net", None, (3, 8, 8), "ce"),
    ],
)
def test_the_loss_of_a_network_that_names_none(
    model: str, preset: str | None, output: tuple[int, ...], word: str
) -> None:
    options = Prune(model=model, preset=preset, sparsity=0.5)
    assert loss_of(options, model, preset, output, open_source(None), 192, trusted=True)[0] == word
