import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp import models
from ranp.adapters.jobs import fuse as fused_runs
from ranp.adapters.jobs._parts import save_run
from ranp.adapters.jobs.folder import WEIGHTS
from ranp.adapters.jobs.options import Fuse, Fused
from ranp.errors import CheckFailed, UsageError
from ranp.models.spec import resolve

SMALL = Fused(
    a="unet2d", set_a=("base_width=4", "depth=2"), in_channels=1, classes=3, input="16", segments=9, widths="5,4"
)
FACTORY = """
from torch import nn

def grid(channels: int = 1):
    return nn.Conv2d(channels, 9, 3, padding=1)
"""
TWO_LAYERS = "nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 3, 1))"


def image() -> Tensor:
    return torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(5))


def fused(options: Fused, out: Path, **more: object) -> dict[str, Any]:
    return fused_runs.run(Fuse.model_validate({**options.model_dump(), "out": out, **more}))


def changed(options: Fused, **settings: object) -> Fused:
    return Fused.model_validate({**options.model_dump(), **settings})


def test_a_run_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    report = fused(SMALL, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.yaml", "fused.safetensors", "report.json",
    ]  # fmt: skip
    assert report["params"]["superpixels"] == 0
    assert report["verify"]["max_rel_diff"] < 1e-5
    loaded = fused_runs.load_fused(str(tmp_path / "run"))
    built = fused_runs.build(SMALL)
    assert torch.equal(loaded(image()), built(image()))
    assert [layer.weight.shape[0] for layer in loaded.transparent.layers] == [5, 4, 3]


def test_trained_weights_survive_the_round_trip(tmp_path: Path) -> None:
    network = fused_runs.build(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    save_run(tmp_path / "run", network, WEIGHTS, SMALL.model_dump(mode="json"), {}, {}, force=False)
    assert torch.equal(fused_runs.load_fused(str(tmp_path / "run"))(image()), network(image()))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_checkpoints_are_loaded(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    state = {name: value + 1 for name, value in fused_runs.build(SMALL).segmenter.state_dict().items()}
    path = tmp_path / f"unet.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    network = fused_runs.build(changed(SMALL, weights_a=path))
    assert all(torch.equal(value, state[name]) for name, value in network.segmenter.state_dict().items())


def test_a_factory_of_the_user_is_repeated_when_the_run_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    spec = f"{tmp_path / 'mine.py'}:grid"
    options = changed(SMALL, b=spec, interval=4, segments=500)
    fused(options, tmp_path / "run")
    with pytest.raises(UsageError, match="never make ranp build this network"):
        fused_runs.load_fused(str(tmp_path / "run"))
    with pytest.raises(UsageError, match="was fused from unet2d, not from unet3d"):
        fused_runs.load_fused(str(tmp_path / "run"), a="unet3d", b=spec)
    loaded = fused_runs.load_fused(str(tmp_path / "run"), b=spec)
    assert loaded.has_grid
    assert torch.equal(loaded(image()), fused_runs.build(options)(image()))


def test_a_pruned_run_may_be_the_segmenter(tmp_path: Path) -> None:
    settings = {"in_channels": 1, "classes": 3, "base_width": 4, "depth": 2}
    full = models.build("unet2d", **settings)
    pruned = ranp.prune(full, torch.zeros(1, 1, 16, 16), sparsity=0.3, method="l1")
    ranp.save(tmp_path / "pruned", pruned.slim, pruned.plan, {}, {"model": "unet2d", "settings": settings})
    options = Fused(a=str(tmp_path / "pruned"), segments=9)
    fused(options, tmp_path / "fused")
    network = fused_runs.load_fused(str(tmp_path / "fused"))
    torch.testing.assert_close(network.segmenter(image()), pruned.slim.eval()(image()))
    shutil.rmtree(tmp_path / "pruned")  # the fused run holds what it needs of it
    (tmp_path / "fused").rename(tmp_path / "moved")
    again = fused_runs.load_fused(str(tmp_path / "moved"))
    assert torch.equal(again(image()), network(image()))
    fused(Fused(a=str(tmp_path / "moved"), segments=9), tmp_path / "twice")
    shutil.rmtree(tmp_path / "moved")
    twice = fused_runs.load_fused(str(tmp_path / "twice"))
    torch.testing.assert_close(twice.segmenter(image()), network(image()), atol=1e-5, rtol=1e-5)


def test_a_pruned_network_of_the_user_is_named_again(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY.replace("nn.Conv2d(channels, 9, 3, padding=1)", TWO_LAYERS))
    spec = f"{tmp_path / 'mine.py'}:grid"
    pruned = ranp.prune(resolve(spec), torch.zeros(1, 1, 16, 16), sparsity=0.3, method="l1")
    ranp.save(tmp_path / "pruned", pruned.slim, pruned.plan, {}, {"model": spec})
    options = Fused(a=str(tmp_path / "pruned"), segments=9)
    with pytest.raises(UsageError, match="never make ranp build this network"):
        fused_runs.build(options)
    fused(changed(options, model_a=spec), tmp_path / "fused")
    with pytest.raises(UsageError, match="never make ranp build this network"):
        fused_runs.load_fused(str(tmp_path / "fused"))
    network = fused_runs.load_fused(str(tmp_path / "fused"), a=spec)
    torch.testing.assert_close(network.segmenter(image()), pruned.slim.eval()(image()))
    with pytest.raises(UsageError, match=r"model_a=.*only of use where A is the run"):
        fused_runs.build(changed(SMALL, model_a=spec))


def test_options_a_pruned_run_brings_are_refused(tmp_path: Path) -> None:
    settings = {"in_channels": 1, "classes": 3, "base_width": 4, "depth": 2}
    pruned = ranp.prune(models.build("unet2d", **settings), torch.zeros(1, 1, 16, 16), sparsity=0.3, method="l1")
    ranp.save(tmp_path / "pruned", pruned.slim, pruned.plan, {}, {"model": "unet2d", "settings": settings})
    options = Fused(a=str(tmp_path / "pruned"), segments=9)
    with pytest.raises(UsageError, match=r"set_a=, preset_a=, weights_a=: .* brings its own"):
        fused_runs.build(changed(options, set_a=("base_width=8",)))


def test_an_existing_run_is_kept_without_force_and_replaced_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fused(SMALL, run)
    before = (run / "config.yaml").read_text()
    with pytest.raises(UsageError, match="exists: choose another name"):
        fused(changed(SMALL, seed=3), run)
    assert (run / "config.yaml").read_text() == before
    fused(changed(SMALL, seed=3), run, force=True)
    assert fused_runs.read_options(run).seed == 3
    assert os.listdir(tmp_path) == ["run"]


def test_a_dry_run_and_a_failing_one_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fused(SMALL, tmp_path / "run", dry_run=True)["out"] is None
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr("ranp.adapters.jobs._parts.save_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fused(SMALL, tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_a_stack_that_changes_the_logits_fails_the_check() -> None:
    network = fused_runs.build(SMALL)
    with torch.no_grad():
        network.transparent.layers[0].weight.mul_(1.01)
    with pytest.raises(CheckFailed, match="the stack changes the logits by"):
        fused_runs.check(network, image())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": "psm", "set_a": (), "in_channels": None, "classes": None, "input": "32x64"}, "network of one image"),
        ({"widths": "5,x"}, "widths='5,x': expected whole numbers"),
        ({"widths": "5,2"}, "no width below the 3 channels"),
        ({"interval": 4}, "only a superpixel network has a grid"),
        ({"set_b": ("channels=2",)}, "set_b=: expected a second network B"),
        ({"weights_a": "absent.pt"}, "weights_a='absent.pt': no such file"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
    ],
)
def test_mistakes_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fused_runs.build(changed(SMALL, **settings))


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a folder that `ranp fuse` wrote"):
        fused_runs.load_fused(str(tmp_path))
    (tmp_path / "config.yaml").write_text("model: unet3d\n")
    with pytest.raises(UsageError, match="not options of `ranp fuse`"):
        fused_runs.load_fused(str(tmp_path))
    junk = tmp_path / "junk.pt"
    junk.write_text("no checkpoint")
    with pytest.raises(UsageError, match=r"junk\.pt': not a checkpoint"):
        fused_runs.build(changed(SMALL, weights_a=junk))


def test_weights_of_another_run_are_refused(tmp_path: Path) -> None:
    fused(SMALL, tmp_path / "one")
    fused(changed(SMALL, widths="8,8"), tmp_path / "two")
    (tmp_path / "two" / "fused.safetensors").replace(tmp_path / "one" / "fused.safetensors")
    with pytest.raises(UsageError, match="not the weights of this run"):
        fused_runs.load_fused(str(tmp_path / "one"))


def test_an_unknown_device_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device='cud'"):
        fused(SMALL, tmp_path / "run", device="cud")


def test_modules_other_than_networks_with_parameters_may_give_maps(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\nclass Rows(nn.Module):\n    def forward(self, image):\n"
        "        return (image[:, 0] * 0).long()\n"
    )
    network = fused_runs.build(changed(SMALL, b=f"{tmp_path / 'mine.py'}:Rows"))
    assert isinstance(network.superpixels, nn.Module)
    output = network(image())
    torch.testing.assert_close(output, output.mean((2, 3), keepdim=True).expand_as(output))
