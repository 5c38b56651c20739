import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnunet_plans
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import ranp
from ranp import runs
from ranp.adapters.nnunet import Spending, _spend, export_plans
from ranp.adapters.nnunet._plans import read
from ranp.adapters.nnunet._spend import memory, proxy, spend
from ranp.commands.main import app
from ranp.errors import InfeasibleError, UsageError

pytest.importorskip("dynamic_network_architectures", reason="nnU-Net's networks are not installed")


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Prune a configuration on the command line, once for all tests; none of them writes into a run."""
    folder = tmp_path_factory.mktemp("pruned")
    plans = nnunet_plans.write(folder)

    @functools.cache
    def run(name: str, *more: str) -> Path:
        out = folder / f"run-{name}-{len(more)}"
        words = ["prune", f"nnunet:{plans}#{name}", "--method", "l1", "--sparsity", "0.5"]
        done = CliRunner().invoke(app, [*words, *more, "--out", str(out), "--quiet"])
        assert done.exit_code == 0, done.output[-1000:]
        return out

    return run


def built(plans: Path, name: str, deep: bool) -> nn.Module:
    """Build the network of a configuration as nnU-Net does."""
    locate = pytest.importorskip(
        "nnunetv2.utilities.get_network_from_plans", reason="nnU-Net is not installed", exc_type=ImportError
    )
    made = json.loads(plans.read_text())["configurations"][name]["architecture"]
    network: nn.Module = locate.get_network_from_plans(
        made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"], 1, 3, deep_supervision=deep
    )
    return network


def as_list(outputs: Any) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("name", ["2d", "3d_fullres", "resenc"])
@pytest.mark.parametrize("tie", [("--tie", "stage"), ()])
def test_nnunet_builds_the_slim_network_from_its_plans(
    name: str, tie: tuple[str, ...], tmp_path: Path, pruned: Callable[..., Path]
) -> None:
    plans = nnunet_plans.write(tmp_path)
    before = json.loads(plans.read_text())
    run = pruned(name, *tie)
    done = CliRunner().invoke(app, ["export", str(run), "--nnunet", str(plans), "--nnunet-model", str(tmp_path / "m")])
    assert done.exit_code == 0, done.output[-1000:]
    after = json.loads(plans.read_text())
    added = after["configurations"].pop(f"{name}_ranp")
    assert after == before
    assert added["inherits_from"] == name
    plain = added["architecture"]["network_class_name"].startswith("dynamic_network_architectures.")
    assert plain == bool(tie)
    checkpoint = torch.load(tmp_path / "m" / "fold_all" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["init_args"]["configuration"] == f"{name}_ranp"
    assert json.loads((tmp_path / "m" / "plans.json").read_text()) == json.loads(plans.read_text())
    slim = ranp.load(run).eval()
    image = torch.randn(1, 1, *[16] * (2 if name == "2d" else 3))
    for deep in (True, False):
        network = built(plans, f"{name}_ranp", deep).eval()
        network.load_state_dict(checkpoint["network_weights"])
        slim.decoder.deep_supervision = deep
        with torch.no_grad():
            for theirs, ours in zip(as_list(network(image)), as_list(slim(image)), strict=True):
                torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)


def test_a_plain_configuration_says_one_width_for_each_stage(tmp_path: Path, pruned: Callable[..., Path]) -> None:
    plans = nnunet_plans.write(tmp_path)
    run = pruned("2d", "--tie", "stage")
    done = CliRunner().invoke(app, ["export", str(run), "--nnunet", str(plans), "--json"])
    said = json.loads(done.stdout)["nnunet"]
    assert said["tied"]
    widths = {group.name: len(group.kept) for group in runs.read(run).plan.groups}
    stages = [widths[f"encoder.stages.{number}.0.convs.0.conv"] for number in range(3)]
    assert said["features_per_stage"] == stages
    assert stages[0] < 6
    again = CliRunner().invoke(app, ["export", str(run), "--nnunet", str(plans)])
    assert again.exit_code == 2
    assert "has a configuration 2d_ranp already; --force replaces it" in again.stderr


def test_only_runs_of_plans_go_into_plans_with_their_architecture(tmp_path: Path, pruned: Callable[..., Path]) -> None:
    plans = nnunet_plans.write(tmp_path)
    run = runs.read(pruned("2d"))
    with pytest.raises(UsageError, match="resenc has another architecture"):
        export_plans(run, f"{plans}#resenc")
    other = nnunet_plans.write(tmp_path / "other", nnunet_plans.plans(a=nnunet_plans.configuration(3)))
    with pytest.raises(UsageError, match="no configuration has the architecture"):
        export_plans(run, str(other))
    with pytest.raises(UsageError, match=r"no file .*; expected nnunet:PLANS"):
        export_plans(run, str(tmp_path / "no.json"))
    dry = export_plans(run, str(plans), dry_run=True)
    assert dry["configuration"] == "2d_ranp"
    assert "2d_ranp" not in json.loads(plans.read_text())["configurations"]


@pytest.mark.parametrize(("given", "lacks"), [("--spend batch", "--nnunet"), ("--memory 1GiB", "--spend")])
def test_options_that_belong_to_others_are_refused_alone(given: str, lacks: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path), *given.split()])
    assert done.exit_code == 2
    assert done.stderr.strip().endswith(f"needs {lacks}")


def small(folder: Path) -> tuple[Any, dict[str, Any], nn.Module]:
    base = read(f"{nnunet_plans.write(folder)}#2d", "plans")
    from ranp.adapters.nnunet import network

    slim = {**base.settings, "arch_kwargs": {**base.settings["arch_kwargs"], "features_per_stage": [2, 3, 4]}}
    return base, base.settings, network(**slim)


def test_the_proxy_is_that_of_nnunet(tmp_path: Path) -> None:
    _, settings, network = small(tmp_path)
    theirs: Any = network
    theirs.decoder.deep_supervision = False
    assert proxy(network, 1, (16, 16)) == theirs.compute_conv_feature_map_size((16, 16))
    del settings


def test_a_larger_batch_fits_and_one_more_does_not(tmp_path: Path) -> None:
    base, settings, slim = small(tmp_path)
    limit = memory(slim, 1, (16, 16), 3)
    base.dataset["numTraining"] = 600  # type: ignore[index]
    said = spend(Spending("batch", f"{limit} B"), slim, base, settings)
    assert (said["batch_size"], said["patch_size"], said["memory"]) == (3, [16, 16], limit)
    assert said["full"]["batch_size"] == 2
    assert said["full"]["memory"] > memory(slim, 1, (16, 16), 2)


def of_size(module: nn.Module, channels: int, patch: tuple[int, ...], batch: int) -> int:
    """Return a byte for each voxel of a batch."""
    return channels * math.prod(patch) * batch


@pytest.mark.parametrize(
    ("on", "limit", "cases", "patch", "batch"),
    [
        ("patch", 10**9, 6, [24, 24], 2),  # the median image of 24 x 24, in steps of 4
        ("patch", 2 * 20 * 16, 6, [20, 16], 2),
        ("patch", 2 * 20 * 20 - 1, 6, [24, 16], 2),
        ("patch", 2 * 20 * 24, 6, [24, 20], 2),
        ("batch", 7 * 16 * 16 + 1, 600, [16, 16], 7),
        ("batch", 10**9, 100, [16, 16], 225),  # 5 % of the voxels of 100 volumes
        ("batch", 10**9, 1, [16, 16], 2),
    ],
)
def test_what_is_bought_follows_the_planner(
    on: Any, limit: int, cases: int, patch: list[int], batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_spend, "memory", of_size)
    base, settings, slim = small(tmp_path)
    base.dataset["numTraining"] = cases  # type: ignore[index]
    said = spend(Spending(on, f"{limit} B"), slim, base, settings)
    assert (said["patch_size"], said["batch_size"]) == (patch, batch)
    assert said["memory"] == math.prod(patch) * batch <= limit


def test_memory_that_is_not_enough_for_the_network_as_it_is_says_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_spend, "memory", of_size)
    base, settings, slim = small(tmp_path)
    with pytest.raises(InfeasibleError, match="a training step of the slim network takes") as error:
        spend(Spending("batch", "100 B"), slim, base, settings)
    assert error.value.closest == of_size(slim, 1, (16, 16), 2)
