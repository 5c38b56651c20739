import argparse
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from ranp.errors import UsageError
from ranp.models.weights import PREFIXES, load_weights_


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "network_weights"])
def test_state_dicts_load_bare_or_wrapped(wrapper: str | None, tmp_path: Path) -> None:
    trained, fresh = network(), network()
    state = trained.state_dict()
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pt")
    load_weights_(fresh, tmp_path / "w.pt")
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())


def test_safetensors_load(tmp_path: Path) -> None:
    trained, fresh = network(), network()
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    load_weights_(fresh, tmp_path / "w.safetensors")
    assert torch.equal(fresh.state_dict()["0.weight"], trained.state_dict()["0.weight"])


class Command:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("pwned"),))


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(pickle.dumps({"0.weight": Command()}))
    torch.save({"0.weight": Command()}, "v.pt")
    for name in ("w.pt", "v.pt"):
        with warnings.catch_warnings(record=True) as warned, pytest.raises(UsageError, match="without run") as error:
            load_weights_(network(), Path(name))
        assert not warned  # one line is all that a person reads
        assert "In PyTorch 2.6" not in str(error.value)
    assert not Path("pwned").exists()


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(UsageError, match="no such file"):
        load_weights_(network(), path)
    for state, expected in (
        (nn.Conv2d(1, 2, 3).state_dict(), "0.weight is missing"),
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).state_dict(), "0.weight is"),
        ({**network().state_dict(), "2.weight": torch.ones(1)}, "2.weight is not in the network"),
        ({"epoch": 3}, "expected a state dict"),
        ([1, 2], "expected a state dict"),
    ):
        torch.save(state, path)
        with pytest.raises(UsageError, match=expected):
            load_weights_(network(), path)
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UsageError, match="not a checkpoint"):
        load_weights_(network(), tmp_path / "w.safetensors")


def kept() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, momentum=0.3)).state_dict()


def loaded(content: Any, path: Path) -> tuple[str, dict[str, Tensor]]:
    torch.save(content, path)
    fresh = network()
    return load_weights_(fresh, path), fresh.state_dict()


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


STATE = kept()
COUNTERS = {"0.total_ops": torch.zeros(1), "total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
SAVED: dict[str, tuple[Any, str]] = {
    "bare": (STATE, "w: 7 tensors"),
    "lightning": (
        {"epoch": 3, "state_dict": under("model.", STATE), "hyper_parameters": {"lr": 1e-3}, "loops": {}},
        "w: 7 tensors under state_dict, model. stripped from their names",
    ),
    "lightning with a loss": (
        {"state_dict": {**under("net.", STATE), "loss.weight": torch.ones(2)}},
        "w: 7 tensors under state_dict, net. stripped from their names, left out loss.weight",
    ),
    "nnU-Net": (
        {
            "network_weights": under("_orig_mod.", STATE),
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 1e-2}]},
            "grad_scaler_state": {"scale": 65536.0, "_growth_tracker": 0},
            "logging": {"mean_fg_dice": [np.float64(0.5)], "ema": np.arange(3.0)}, "_best_ema": np.float32(0.8),
            "init_args": {"plans": {"plans_name": "nnUNetPlans"}, "fold": 0, "device": torch.device("cpu")},
            "current_epoch": 1000, "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 1),
        },
        "w: 7 tensors under network_weights, _orig_mod. stripped from their names",
    ),
    "MONAI": ({"net": STATE}, "w: 7 tensors under net"),
    "ignite": ({"model": STATE, "optimizer": {}}, "w: 7 tensors under model"),
    "wrapped twice": (
        {"model": {"state_dict": under("module._orig_mod.", STATE)}},
        "w: 7 tensors under model.state_dict, _orig_mod. and module. stripped from their names",
    ),
    "a part compiled": (
        {name.replace("0.", "0._orig_mod."): value for name, value in STATE.items()},
        "w: 7 tensors, _orig_mod. stripped from their names",
    ),
    "only averages": ({"state_dict_ema": STATE}, "w: 7 tensors under state_dict_ema"),
    "a Lightning module's own word": (
        {"state_dict": {**under("unet.", STATE), "criterion.weight": torch.ones(2)}},
        "w: 7 tensors under state_dict, unet. stripped from their names, left out criterion.weight",
    ),
    "one of two encoders": (
        {"state_dict": {**under("module.encoder_q.", STATE), "module.queue": torch.ones(2, 3)}},
        "w: 7 tensors under state_dict, module.encoder_q. stripped from their names, left out module.queue",
    ),
    "a number beside the tensors": ({**STATE, "epoch": 3}, "w: 7 tensors, left out epoch"),
    "arrays": ({name: value.numpy() for name, value in STATE.items()}, "w: 7 tensors"),
    "nested": ({"checkpoint": {"model": STATE}}, "w: 7 tensors under checkpoint.model"),
    "averages too": (
        {"ema_state_dict": under("", network().state_dict()), "state_dict": STATE},
        "w: 7 tensors under state_dict, not taken: ema_state_dict",
    ),
    "AveragedModel": (
        {"n_averaged": torch.tensor(3), **under("module.", STATE)},
        "w: 7 tensors, module. stripped from their names, left out n_averaged",
    ),
    "thop": ({**STATE, **COUNTERS}, "w: 7 tensors, left out total_ops, total_params"),
    "no counters": (
        {name: value for name, value in STATE.items() if "num_batches" not in name},
        "w: 6 tensors, num_batches_tracked is not in it",
    ),
    "counters too many": (
        {**STATE, "0.num_batches_tracked": torch.tensor(1)}, "w: 7 tensors, left out num_batches_tracked",
    ),
    "parameters": ({name: nn.Parameter(value, requires_grad=False) for name, value in STATE.items()}, "w: 7 tensors"),
}  # fmt: skip
for first in ("module.", "_orig_mod.", "model.", "net.", "backbone."):
    for second in ("", "module.", "_orig_mod.", "model.", "net.", "backbone."):
        SAVED[first + second] = (under(first + second, STATE), "7 tensors")


@pytest.mark.parametrize("name", SAVED)
def test_what_people_save_is_found_and_said(name: str, tmp_path: Path) -> None:
    content, expected = SAVED[name]
    said, state = loaded(content, tmp_path / "w")
    assert said == expected if expected.startswith("w") else expected in said
    assert "\n" not in said
    assert all(torch.equal(value, STATE[key]) for key, value in state.items() if "num_batches" not in key)


def test_a_prefix_that_only_the_network_has_is_put_before_the_names(tmp_path: Path) -> None:
    inner = network()
    torch.save(inner.state_dict(), tmp_path / "w")
    outer = nn.ModuleDict({"unet": network()})
    assert load_weights_(outer, tmp_path / "w") == "w: 7 tensors, unet. put before their names"
    assert torch.equal(outer["unet"][0].weight, inner[0].weight)
    parallel = nn.DataParallel(network())
    assert load_weights_(parallel, tmp_path / "w") == "w: 7 tensors"
    assert torch.equal(parallel.module[0].weight, inner[0].weight)


def test_files_are_read_by_what_they_are(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.pth")
    torch.save(STATE, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        fresh = network()
        assert load_weights_(fresh, tmp_path / name) == f"{name}: 7 tensors"
        assert torch.equal(fresh.state_dict()["0.weight"], STATE["0.weight"])


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_the_network_has_itself_stays(prefix: str, tmp_path: Path) -> None:
    word = prefix.removesuffix(".")

    def own() -> nn.Module:
        return nn.ModuleDict({word: nn.Conv2d(1, 2, 3)})

    for outer in ("", "module.", prefix):
        trained, fresh = own(), own()
        torch.save(under(outer, trained.state_dict()), tmp_path / "w")
        load_weights_(fresh, tmp_path / "w")
        assert torch.equal(fresh.state_dict()[f"{word}.weight"], trained.state_dict()[f"{word}.weight"])


def test_masks_of_torch_prune_are_applied(tmp_path: Path) -> None:
    trained = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    prune.l1_unstructured(trained[0], "weight", 0.5)
    said, state = loaded(under("module.", trained.state_dict()), tmp_path / "w")
    assert said == "w: 7 tensors, module. stripped from their names, masks of 1 applied"
    assert torch.equal(state["0.weight"], trained[0].weight)
    assert (state["0.weight"] == 0).sum() == 9


def test_half_precision_is_widened(tmp_path: Path) -> None:
    _, state = loaded({name: value.half() if value.is_floating_point() else value for name, value in STATE.items()},
                      tmp_path / "w")  # fmt: skip
    assert state["0.weight"].dtype == torch.float32
    assert torch.equal(state["0.weight"], STATE["0.weight"].half().float())


REFUSED: dict[str, tuple[Any, str]] = {
    "a namespace": ({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, "it holds argparse.Namespace"),
    "a path": ({"state_dict": STATE, "path": Path("x")}, r"it holds pathlib\.\w*Path"),
    "a network": (network(), "it holds torch.nn.modules.container.Sequential"),
    "pairs": (list(STATE.items()), "expected a state dict"),
    "another network": (
        nn.Conv2d(1, 2, 3).state_dict(),
        r"does not fit Sequential: 0.weight is missing, weight is not in the network \(8 differ\)",
    ),
    "more": (under("model.", {**STATE, "head.weight": torch.ones(2)}), "model.head.weight is not in the network"),
    "another width": (
        {**STATE, "0.weight": torch.zeros(3, 1, 3, 3)}, r"0.weight is \(3, 1, 3, 3\); the network's is \(2",
    ),
    "two that fit": (
        {**under("student.", STATE), **under("teacher.", STATE)}, "the names under student. and teacher. fit",
    ),
    "complex numbers": (
        {**STATE, "0.weight": STATE["0.weight"] + 1j}, "0.weight is complex64; the network's is float32",
    ),
    "whole numbers that a float can't hold": (
        {**STATE, "0.bias": torch.tensor([2**24 + 1, 0])}, "0.bias is int64; the network's is float32",
    ),
    "a sparse one": (
        {**STATE, "0.weight": STATE["0.weight"].to_sparse()}, "0.weight is sparse; expected plain numbers",
    ),
    "no values": (
        {name: value.to("meta") for name, value in STATE.items()}, "0.weight is on the meta device and has no values",
    ),
    "objects": ({"model": STATE, "names": np.array(["a", None], dtype=object)}, "it holds numpy.dtypes.ObjectDType"),
    "an unknown key": ({"student": STATE}, "expected a state dict .*, found student"),
    "weight norm": (
        {**{name: value for name, value in STATE.items() if name != "0.weight"}, "0.weight_g": torch.ones(2)},
        "0.weight is missing, 0.weight_g is not in the network",
    ),
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_with_the_reason(name: str, old: bool, tmp_path: Path) -> None:
    content, expected = REFUSED[name]
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    fresh = network()
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(UsageError, match=expected) as error:
        load_weights_(fresh, tmp_path / "w.pt")
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())


def test_files_of_other_kinds_are_refused_in_a_line(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own tracer old
        program = torch.jit.trace(network().eval(), torch.zeros(1, 1, 8, 8))
        torch.jit.save(program, tmp_path / "scripted")
    (tmp_path / "pickle").write_bytes(pickle.dumps(STATE))
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    torch.save(STATE, tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:900])
    (tmp_path / "folder").mkdir()
    for name, expected in (
        ("scripted", "a TorchScript archive"), ("pickle", "not written by torch.save"),
        ("text", "not written by torch.save"),
        ("empty", "not written by torch.save"), ("pointer", "git lfs pull"), ("cut", "cut short or damaged"),
        ("folder", "a folder; expected a file"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=expected) as error:
            load_weights_(network(), tmp_path / name)
        assert "\n" not in str(error.value)
        assert "Please" not in str(error.value)
