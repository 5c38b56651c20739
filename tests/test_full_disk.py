"""Files that find no room: one line, and what was there before is there after, byte for byte, with nothing beside it.

The room ends by the limit on the size of a file, which the system enforces in every library that writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app

resource = pytest.importorskip("resource")

SMALL = ["--set", "base_width=8", "--set", "depth=2", "--patch", "8", "--batches", "1"]
ROOM = 1000
"""Bytes; the least of what a command writes (a plan, a report, weights, a page) is larger."""


@contextmanager
def little_room() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk")
    for name in ("run", "other"):
        words = ["prune", "unet3d", *SMALL, "--sparsity", "0.3", "--out", str(path / name)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    for line in ("report {0}/run --out {0}/page.html", "compare {0}/run --out {0}/table.json"):
        done = CliRunner().invoke(app, line.format(path).split())
        assert done.exit_code == 0, done.output
    (path / "net.onnx").write_text("mine")
    done = CliRunner().invoke(app, f"export {path}/run --torch-export {path}/net.pt2".split())
    assert done.exit_code == 0, done.output
    return path


@pytest.mark.parametrize(
    "line",
    [
        "prune unet3d {small} --sparsity 0.2 --out run --force",
        "prune unet3d {small} --sparsity 0.2 --out new",
        "transfer run --in-channels 2 --out other --force",
        "transfer run --in-channels 2 --out new",
        "report run",
        "report run other",
        "report run --out page.html --force",
        "compare run",
        "compare unet3d {small} --sparsity 0.2 --out table.json --force",
        "export run --torch-export net.pt2 --force",
        "export run --onnx net.onnx --force",
        "export run",
    ],
)
def test_what_was_there_stays(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if line.startswith("export") and "torch" not in line:
        pytest.importorskip("onnxruntime")
    monkeypatch.chdir(folder)
    before = content(folder)
    with little_room():
        done = CliRunner().invoke(app, line.format(small=" ".join(SMALL)).split())
    assert done.exit_code == 2, done.output
    (said,) = [each for each in done.stderr.splitlines() if not each.startswith(("warning", "step: "))]
    assert said.endswith("File too large; nothing was written")
    assert content(folder) == before
