"""The fusion example runs, on a few generated images."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fuse.py"


def test_images_need_labels(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE))["main"](["--images", "t1.nii.gz"])
    assert "--images and --labels go together" in capsys.readouterr().err


@pytest.mark.parametrize("superpixels", ["slic", "network"])
def test_fuse(capsys: pytest.CaptureFixture[str], superpixels: str) -> None:
    small = ["--size", "32", "--steps", "2", "--segments", "40", "--superpixels", superpixels]
    runpy.run_path(str(EXAMPLE))["main"](small)
    lines = re.findall(r"^(.+?) +mIoU (\d\.\d+) +pixel accuracy (\d\.\d+)", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, *_ in lines] == [
        "segmenter",
        "fused, untrained",
        "fused, trained on",
        "segmenter, trained on",
    ]
    assert all(0 < float(value) <= 1 for _, *values in lines for value in values)
