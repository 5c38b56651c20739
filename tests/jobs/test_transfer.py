"""Transfer of a run: settings of the factory, channels and classes of a data set, and the run that is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ranp import models, runs
from ranp.errors import UsageError, on_command_line
from ranp.inputs import InputSpec
from ranp.jobs.options import Transfer
from ranp.jobs.transfer import carry_out, config_of, keep, prepare
from ranp.models.spec import resolve
from ranp.pipeline import prune
from ranp.plan import Choice, Plan
from ranp.surgery import verify

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

MONAI = "monai.networks.nets:UNet"


def saved(path: Path, spec: str, settings: dict[str, Any], *shapes: tuple[int, ...]) -> Path:
    found = prune(resolve(spec, settings), tuple(map(torch.zeros, shapes)), rule="random", sparsity=0.3)
    return runs.save(path, found.slim, found.plan, found.report.to_dict(), {"model": spec, "settings": settings})


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"in_channels": 1, "classes": 2, "base_width": 4, "depth": 2}
    return saved(tmp_path_factory.mktemp("transfer") / "run", "unet2d", settings, (1, 1, 8, 8))


def transferring(run: Path, out: Path, **options: Any) -> Transfer:
    with on_command_line():
        return Transfer.read({"run": run, "out": out, **options})


def transferred(job: Transfer) -> runs.Run:
    prepared = prepare(job)
    keep(prepared, carry_out(prepared))
    return runs.read(job.out)


def test_a_transferred_run_is_a_run(unet: Path, tmp_path: Path) -> None:
    run = transferred(transferring(unet, tmp_path / "new", in_channels=4, classes=5, input="16"))
    slim = run.slim()
    assert slim(torch.zeros(1, 4, 16, 16)).shape == (1, 5, 16, 16)
    assert verify(run.full(), slim, run.plan, run.plan.example_inputs()).passed
    assert run.config["settings"]["classes"] == 5
    assert run.report["input"] == [[4, 16, 16]]
    assert run.report["transfer"]["input_before"] == [[1, 8, 8]]
    assert run.report["slim"]["flops"] > runs.read(unet).report["slim"]["flops"]
    again = transferring(run.path, tmp_path / "back", in_channels=1, classes=2, input="8")
    assert transferred(again).plan.groups == runs.read(unet).plan.groups


def test_what_is_not_asked_for_stays(unet: Path, tmp_path: Path) -> None:
    run = transferred(transferring(unet, tmp_path / "new", keep_weights=True))
    old, new = runs.read(unet), run
    assert new.plan == old.plan
    assert all(torch.equal(value, new.weights()[name]) for name, value in old.weights().items())
    assert sorted(run.report["transfer"]["inherited"]) == sorted(old.weights())


def test_networks_of_monai_have_their_own_names_for_classes(tmp_path: Path) -> None:
    settings = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    path = saved(tmp_path / "run", MONAI, settings, (1, 1, 8, 8))
    run = transferred(transferring(path, tmp_path / "new", in_channels=2, classes=3))
    assert run.slim()(torch.zeros(1, 2, 8, 8)).shape == (1, 3, 8, 8)


def test_both_inputs_of_a_stereo_network_change_and_it_has_no_classes(tmp_path: Path) -> None:
    settings = {"in_channels": 1, "maxdisp": 16, "width": 4, "pools": [8, 4, 2, 1]}
    image = InputSpec(shape=(1, 1, 32, 32), dtype="float32")
    plan = Plan(inputs=(image, image), groups=(), choice=Choice(rule="random"))
    path = runs.save(tmp_path / "run", nn.Identity(), plan, {}, {"model": "psm", "settings": settings})
    job = transferring(path, tmp_path / "new", in_channels=3)
    prepared = prepare(job)
    assert [tuple(each.shape) for each in prepared.inputs] == [(1, 3, 32, 32)] * 2
    assert config_of(prepared)["settings"]["pools"] == [8, 4, 2, 1]
    with pytest.raises(UsageError, match="--classes 4: psm has no setting classes or"):
        prepare(transferring(path, tmp_path / "new", classes=4))


def test_a_preset_becomes_settings(tmp_path: Path) -> None:
    found = prune(models.build("unet3d", "brats-15", base_width=4, depth=2), torch.zeros(1, 4, 8, 8, 8), method="l1",
                  sparsity=0.3)  # fmt: skip
    config = {"model": "unet3d", "preset": "brats-15", "settings": {"base_width": 4, "depth": 2}}
    runs.save(tmp_path / "run", found.slim, found.plan, {}, config)
    run = transferred(transferring(tmp_path / "run", tmp_path / "new", classes=3))
    assert run.config["settings"] == {"in_channels": 4, "classes": 3, "base_width": 4, "depth": 2}
    assert "preset" not in run.config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "--classes 0: expected a positive number"),
        ({"classes": 3, "settings": {"classes": 4}}, "--classes 3: --set classes=4 says otherwise"),
        ({"settings": {"base_width": 8}}, "group 'encoder.0.0.0'.* 4 in the plan .* 8 in the network"),
        ({"settings": {"clases": 8}}, "did you mean 'classes'"),
        ({"input": "4x4x4"}, "--input 4x4x4: expected 2 spatial dimensions"),
        ({"data": "nifty"}, "--data nifty: no such file or folder, nor one of .*did you mean 'nifti'"),
        ({"data": "nifti"}, "--images: nothing given"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    unet: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        transferred(transferring(unet, tmp_path / "new", **options))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(unet: Path) -> None:
    with pytest.raises(UsageError, match="--force"):
        prepare(transferring(unet, unet))


def test_channels_and_classes_are_read_off_the_data(unet: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    image, labels = tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(rng.normal(size=(8, 8, 8, 3)).astype(np.float32), np.eye(4)), image)
    nibabel.save(nibabel.Nifti1Image((np.arange(512).reshape(8, 8, 8) % 7).astype(np.uint8), np.eye(4)), labels)
    data = {"data": "nifti", "images": (image,), "labels": (labels,)}
    prepared = prepare(transferring(unet, tmp_path / "new", **data))
    assert (prepared.settings["in_channels"], prepared.settings["classes"]) == (3, 7)
    assert prepare(transferring(unet, tmp_path / "new", classes=9, **data)).settings["classes"] == 9
    with pytest.raises(UsageError, match=r"--in-channels 1: the images have 3 channel\(s\)"):
        prepare(transferring(unet, tmp_path / "new", in_channels=1, **data))
    with pytest.raises(UsageError, match="--classes 5: the labels go up to 6, which takes 7 classes"):
        prepare(transferring(unet, tmp_path / "new", classes=5, **data))
