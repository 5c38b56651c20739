import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ranp.errors import UsageError
from ranp.models.weights import load_weights_


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
