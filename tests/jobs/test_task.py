from ranp.data.sources import open_source
from ranp.jobs._task import asks_values, loss_of
from ranp.jobs.options import Lossy


def test_the_loss_of_a_network_that_names_none() -> None:
    phantom = open_source("phantom")

    def word(model: str, preset: str | None, output: tuple[int, ...]) -> str:
        return loss_of(Lossy(), model, preset, output, phantom, 192, trusted=True)[0]

    voxels = (8, 8, 8)
    assert word("unet3d", None, (4, *voxels)) == "ce"
    assert word("unet3d", "brats-15", (5, *voxels)) == "ce-dice"
    assert word("psm", None, (8, 8)) == "stereo"
    assert word("a:Net", None, (4, *voxels)) == "ce"
    assert word("a:Net", None, (1, *voxels)) == "bce"


def test_values_are_asked_for_by_the_loss_or_by_the_networks_own() -> None:
    assert asks_values("mse", "unet2d", None)
    assert asks_values("file.py:loss", "eigen-fergus", None)  # stands in for its mse
    assert not asks_values("ce", "unet2d", None)
    assert not asks_values("file.py:loss", "package:Network", None)
