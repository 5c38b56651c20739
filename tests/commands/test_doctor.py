import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Call = Callable[..., Any]


def test_the_machine_is_described(ranp: Call, answer: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = answer("doctor")
    assert found["packages"]["torch"] == {"version": torch.__version__, "problem": None}
    assert found["extras"]["medical"]["nibabel"]["version"] == importlib.metadata.version("nibabel")
    assert found["folders"]["working folder"] == {"path": str(tmp_path), "writable": True}
    assert {each["kind"] for each in found["kernels"]} == {"cpu", "cuda"}
    assert found["problems"] == []
    text = ranp("doctor").stdout
    assert "everything that is needed is here" in text
    assert torch.__version__ in text


def test_what_is_needed_and_missing_is_a_failure(ranp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "safetensors":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.0.1" if name == "rich" else "999.0"

    monkeypatch.setattr("ranp.jobs.doctor.importlib.metadata.version", version)
    text = ranp("doctor", code=1).stdout
    assert "problem: safetensors: not installed" in text
    assert "problem: rich: 0.0.1 is older than" in text


def test_a_wrong_switch_of_the_kernels_is_a_problem(answer: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "perhaps")
    assert "RANP_NATIVE='perhaps'" in answer("doctor", code=1)["problems"][0]
