import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from ranp.errors import UsageError
from ranp.models.spec import resolve

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

UNET = "monai.networks.nets:UNet"
SETTINGS = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour_of_nets.py").write_text("WIDTH = 3\n")
    (tmp_path / "other_neighbour_of_nets.py").write_text("WIDTH = 4\n")
    path = tmp_path / "nets.py"
    path.write_text(
        textwrap.dedent("""
        from torch import nn
        from neighbour_of_nets import WIDTH

        def net(width: int = WIDTH): return nn.Conv2d(1, width, 3)
        def text(): return "a network"
        def broken(): raise RuntimeError("no luck")
        def leaves(): raise SystemExit(3)
        def late():
            import other_neighbour_of_nets
            return nn.Linear(1, other_neighbour_of_nets.WIDTH)
        def greedy(widths: list): return nn.Linear(widths.pop(), widths.pop())
        ready = nn.ReLU()
        number = 3
        """)
    )
    return path


def test_built_in_with_preset() -> None:
    assert sum(p.numel() for p in resolve("unet3d", {"base_width": 4}, preset="brats-15").parameters()) > 0


@pytest.mark.parametrize("trusted", [True, False])
def test_monai(trusted: bool) -> None:
    network = resolve(UNET, SETTINGS, trusted=trusted)
    assert type(network).__name__ == "UNet"


def test_file(user_file: Path) -> None:
    path = list(sys.path)
    assert resolve(f"{user_file}:net").weight.shape == (3, 1, 3, 3)
    assert resolve(f"{user_file}:net", {"width": 5}).weight.shape == (5, 1, 3, 3)
    assert resolve(f"{user_file}:late").weight.shape == (4, 1)
    assert sys.path == path


def test_settings_are_left_as_they_were(user_file: Path) -> None:
    settings = {"widths": [3, 2]}
    assert resolve(f"{user_file}:greedy", settings).weight.shape == (3, 2)
    assert settings == {"widths": [3, 2]}


def test_importable_from_the_current_folder(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_file.parent)
    (user_file.parent / "mine_to_import.py").write_text("from torch.nn import Linear\n")
    assert resolve("mine_to_import:Linear", {"in_features": 2, "out_features": 3}).weight.shape == (3, 2)


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again = (next(resolve(UNET, SETTINGS, seed=3).parameters()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("unet3", {}, "not a built-in.*did you mean 'unet3d'"),
        ("monai.networks.nets.UNet", {}, "did you mean 'monai.networks.nets:UNet'"),
        ("nets.py", {}, "write nets.py:factory"),
        ("nowhere.py:net", {}, "no file nowhere.py"),
        ("no_such_package.nets:Net", {}, "can't import no_such_package.nets"),
        ("monai.networks.nett:UNet", {}, "did you mean 'monai.networks.nets'?"),
        ("UNET3D", {}, "did you mean 'unet3d'?"),
        ("unet3d", {"seed": 3}, "--set seed: unet3d takes in_channels"),
        ("unet3d", {"preset": "brats-15"}, "--set preset: unet3d takes in_channels"),
        (":net", {}, "expected package.module:Factory"),
        ("monai.networks.nets:UNett", {}, "did you mean 'UNet'"),
        ("os:sep", {}, "expected a class or a function"),
        ("os:getcwd", {}, "expected an nn.Module, got a str"),
        (UNET, {**SETTINGS, "chanels": 3}, "--set chanels.*did you mean 'channels'"),
        (UNET, {**SETTINGS, "spatial_dims": "two"}, "--set spatial_dims='two'.*expects int"),
        (UNET, {**SETTINGS, "channels": 4}, "--set channels=4.*expects Sequence"),
        (UNET, {"spatial_dims": 2}, "needs --set in_channels=... and --set out_channels"),
        (UNET, {**SETTINGS, "strides": [2, 2, 2, 2], "channels": []}, "MODEL monai.*ValueError"),
    ],
)
def test_mistakes_are_one_line(spec: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(spec, settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nett", "has no 'nett'; did you mean 'net'"),
        ("text", "expected an nn.Module, got a str"),
        ("broken", "RuntimeError: no luck"),
        ("leaves", "SystemExit: 3"),
        ("number.real.deep", "has no 'deep'"),
        ("ready", "is a network already"),
        ("number", "expected a class or a function"),
    ],
)
def test_mistakes_in_a_file(user_file: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(f"{user_file}:{name}")


def test_a_file_that_does_not_run_leaves_no_module(tmp_path: Path) -> None:
    path = tmp_path / "syntax.py"
    path.write_text("def net(:\n")
    with pytest.raises(UsageError, match="SyntaxError"):
        resolve(f"{path}:net")
    assert not [name for name in sys.modules if name.startswith("ranp_user_syntax")]


def test_preset_of_a_users_network_is_refused() -> None:
    with pytest.raises(UsageError, match="only built-ins have presets"):
        resolve(UNET, SETTINGS, preset="brats-15")


class TestUntrusted:
    @pytest.mark.parametrize(
        "spec",
        [
            "os:getcwd",
            "torch.nn:Linear",
            "monai.networks.nets:resnet50",
            "monai.networks.nets:unet",
            "monai.networks.nets.unet:UNet",
            "monai.networks.nets:Transchex",
            "monai.networks.nets:MILModel",
            "monai.networks.nets:UNet.__init__",
            "monai.networks.blocks:Convolution",
        ],
    )
    def test_nothing_else_is_built(self, spec: str) -> None:
        with pytest.raises(UsageError, match=f"repeat it with --model {spec}"):
            resolve(spec, {}, trusted=False)

    def test_a_file_is_neither_run_nor_imported(self, tmp_path: Path) -> None:
        path = tmp_path / "evil_nets.py"
        path.write_text("from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n")
        with pytest.raises(UsageError, match="repeat it with --model"):
            resolve(f"{path}:net", {}, trusted=False)
        assert not path.with_suffix(".ran").exists()

    def test_no_weights_are_downloaded(self) -> None:
        """The constructor's default would fetch pretrained weights; a run brings its own."""
        settings = {"model_name": "efficientnet-b0", "spatial_dims": 2, "num_classes": 2}
        assert type(resolve("monai.networks.nets:EfficientNetBN", settings, trusted=False)).__name__ == "EfficientNetBN"
