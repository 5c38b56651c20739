from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Call = Callable[..., Any]


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str) -> Path:
        (tmp_path / "run.yaml").write_text(text)
        return tmp_path / "run.yaml"

    return write


def test_a_config_gives_defaults_and_the_command_line_wins(answer: Call, config: Call, tmp_path: Path) -> None:
    path = config(f"""
model: unet3d
set: {{base_width: 4, depth: 2}}
classes: 3
patch: 8
method: l1
sparsity: 0.05
min-width: 2
freeze: final
out: {tmp_path / "run"}
""")
    report = answer("prune", "--config", path, "--sparsity", "0.1")
    assert report["sparsity"]["asked"] == 0.1
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["settings"] == {"base_width": 4, "depth": 2, "classes": 3}
    assert written["min_width"] == 2
    assert written["freeze"] == ["final"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sparsty: 0.5", "unknown key 'sparsty'; did you mean 'sparsity'?"),
        ("config: other.yaml", "unknown key 'config'"),
        ("sparsity: [0.1, 0.2]", "expected one value"),
        ("- sparsity", "expected a mapping"),
        ("sparsity: !!python/object/apply:os.system ['touch pwned']", "not plain YAML"),
        ("a: [", "not plain YAML"),
    ],
)
def test_a_bad_config_is_refused(
    refused: Call, config: Call, text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused("prune", "unet3d", "--config", config(text))
    assert [each.name for each in tmp_path.iterdir()] == ["run.yaml"]


def test_a_missing_config_is_refused(refused: Call) -> None:
    assert "No such file" in refused("prune", "unet3d", "--config", "none.yaml")
