import json

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app
from ranp.kernels import native
from ranp.kernels.compiling import BuildError, Recipe

runner = CliRunner()


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(kind: str) -> Recipe:
        raise BuildError(f"no {kind} compiler found")

    monkeypatch.setattr(native, "recipe", missing)
    monkeypatch.setenv("RANP_NATIVE", "auto")


def test_status_as_json_names_both_libraries(no_compiler: None) -> None:
    done = runner.invoke(app, ["kernels", "status", "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["RANP_NATIVE"] == "auto"
    assert [(one["kind"], one["state"]) for one in found["libraries"]] == [
        ("cpu", "unavailable"),
        ("cuda", "unavailable"),
    ]


def test_status_says_why_one_is_missing(no_compiler: None) -> None:
    done = runner.invoke(app, ["kernels", "status"])
    assert "cpu: unavailable" in done.stdout
    assert "no cpu compiler found" in done.stdout


def test_status_refuses_an_unknown_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "on")
    done = runner.invoke(app, ["kernels", "status"])
    assert done.exit_code == 2
    assert done.stderr.strip() == "error: RANP_NATIVE='on': expected one of off, auto, require"


def test_build_without_a_compiler_is_one_line_and_exit_3(no_compiler: None) -> None:
    done = runner.invoke(app, ["kernels", "build", "cpu"])
    assert done.exit_code == 3
    assert done.stderr.strip() == "error: cpu: no cpu compiler found"


def test_build_prints_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "build", lambda kind, force: f"/cache/{kind}-{force}.so")
    assert runner.invoke(app, ["kernels", "build", "cpu", "--force"]).stdout.strip() == "/cache/cpu-True.so"
    done = runner.invoke(app, ["kernels", "build", "cuda", "--json"])
    assert json.loads(done.stdout) == {"kind": "cuda", "file": "/cache/cuda-False.so"}
