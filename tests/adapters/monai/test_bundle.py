import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import ranp
from ranp.commands.main import app
from ranp.errors import UsageError
from ranp.models.request import read_request
from ranp.models.words import recipe_of

UNET = {
    "_target_": "UNet", "spatial_dims": 2, "in_channels": "@channels", "out_channels": 2, "channels": [4, 6, 9],
    "strides": [2, 2],
}  # fmt: skip


def bundle(folder: Path, network: dict[str, Any] = UNET, **more: Any) -> Path:
    (folder / "configs").mkdir(parents=True)
    config = {"channels": 1, "network_def": network, "lr": 0.1, **more}
    (folder / "configs" / "train.json").write_text(json.dumps(config))
    image = {"num_channels": 1, "spatial_shape": ["16*n", 48]}
    metadata = {"changelog": {"0.1": "first"}, "network_data_format": {"inputs": {"image": image}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_a_bundle_says_network_size_spacing_and_weights(tmp_path: Path) -> None:
    steps = [{"_target_": "LoadImaged"}, {"_target_": "Spacingd", "pixdim": [1.5, 2]}]
    folder = bundle(tmp_path / "b", train={"preprocessing": {"transforms": steps}})
    recipe = recipe_of(f"bundle:{folder}")
    assert recipe is not None
    assert (recipe.model, recipe.shape, recipe.spacing) == ("monai.networks.nets:UNet", (1, 64, 48), (1.5, 2.0))
    assert recipe.weights is None
    network = read_request(f"bundle:{folder}").network()
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    again = recipe_of(f"bundle:{folder}")
    assert again is not None
    assert again.weights == folder / "models" / "model.pt"
    assert read_request(f"bundle:{folder}", in_channels=3).shapes == ((1, 3, 64, 48),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_target_": "scripts.net.Net"}, "name it as MODEL scripts.net:Net, its arguments by --set"),
        ({"out_channels": "$1 + 1"}, "network_def holds '$1 + 1', which is not run"),
        ({"out_channels": "@classes"}, "network_def refers to @classes, which is not there"),
    ],
)
def test_what_would_have_to_be_run_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b", {**UNET, **change})
    with pytest.raises(UsageError) as error:
        recipe_of(f"bundle:{folder}")
    assert said in str(error.value)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no configs/inference\.json or train\.json with a network_def"):
        recipe_of(f"bundle:{tmp_path}")


def pruned(folder: Path, *more: str) -> Path:
    words = ["--input", "32", "--method", "l1", "--sparsity", "0.4", "--out", str(folder / "run"), "--quiet", "--force"]
    done = CliRunner().invoke(app, ["prune", f"bundle:{bundle(folder / 'b')}", *words, *more])
    assert done.exit_code == 0, done.output[-1000:]
    if more:
        assert "the same network without ranp: monai.networks.nets.UNet(" in done.stdout
    return folder / "run"


@pytest.mark.parametrize("tie", [("--tie", "stage"), ()])
def test_a_slim_bundle_builds_the_network_of_the_run(tie: tuple[str, ...], tmp_path: Path) -> None:
    run = pruned(tmp_path, *tie)
    out = tmp_path / "slim"
    words = ["--monai-bundle", str(out), "--from-bundle", str(tmp_path / "b"), "--json"]
    done = CliRunner().invoke(app, ["export", str(run), *words])
    assert done.exit_code == 0, done.output[-1000:]
    said = json.loads(done.stdout)["monai_bundle"]
    assert said["tied"] == bool(tie)
    config = json.loads((out / "configs" / "train.json").read_text())
    assert config == {"channels": 1, "network_def": said["network_def"], "lr": 0.1}
    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["changelog"]["0.1"] == "first"
    assert len(metadata["changelog"]) == 2
    from monai.bundle import ConfigParser

    parser = ConfigParser({**config, "bundle_root": str(out)})
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(out / "models" / "model.pt", weights_only=True))
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image), ranp.load(run).eval()(image))


def test_only_runs_of_monai_become_bundles(tmp_path: Path) -> None:
    words = ["--set", "base_width=4", "--set", "depth=2", "--input", "8", "--method", "l1", "--sparsity", "0.3"]
    CliRunner().invoke(app, ["prune", "unet2d", *words, "--out", str(tmp_path / "run")])
    done = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--monai-bundle", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "is a run of unet2d; expected one of monai.networks.nets" in done.stderr
