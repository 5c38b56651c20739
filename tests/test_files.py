"""Whole or absent: what a failure in the middle leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ranp import files
from ranp.errors import UsageError
from ranp.files import check_file_place, whole_file, whole_folder

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_file_appears_whole(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyError), whole_file(tmp_path / "a.txt") as temporary:
        {}[temporary.write_text("half")]
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_folder_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with whole_folder(target) as folder:
        (folder / "one").write_text("1")
    with pytest.raises(UsageError, match="--force"), whole_folder(target):
        pass
    with whole_folder(target, force=True) as folder:
        (folder / "two").write_text("2")
    assert names(target) == ["two"]
    assert names(target.parent) == ["run"]


def test_a_link_stays_and_leads_to_the_new_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "run") as folder:
        (folder / "one").write_text("1")
    (tmp_path / "link").symlink_to("run")
    with whole_folder(tmp_path / "link", force=True) as folder:
        (folder / "two").write_text("2")
    assert names(tmp_path / "run") == ["two"]
    assert names(tmp_path) == ["link", "run"]
    assert (tmp_path / "link").is_symlink()


def test_files_of_a_folder_are_as_open_as_new_files_are(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "run") as folder:
        (folder / "weights").touch(mode=0o600)
    (tmp_path / "new").touch()
    assert (tmp_path / "run" / "weights").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_place_for_a_file_is_checked_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--onnx .*: a folder"):
        check_file_place(tmp_path, force=True, option="onnx")
    with pytest.raises(UsageError, match="no folder"):
        check_file_place(tmp_path / "none" / "a", force=True)
    monkeypatch.setattr("os.access", lambda *_: False)  # to root nothing is read-only
    with pytest.raises(UsageError, match=f"--out .*a: {tmp_path} is read-only"):
        check_file_place(tmp_path / "a", force=False)


def test_failure_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with whole_folder(target) as folder:
        (folder / "one").write_text("1")
    with pytest.raises(KeyError), whole_folder(target, force=True) as folder:
        {}[(folder / "two").write_text("half")]
    assert names(target) == ["one"]
    assert names(tmp_path) == ["run"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="nothing was written"), whole_folder(tmp_path / "file" / "run"):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(UsageError, match="disk is full"),
        whole_file(tmp_path / "a.txt"),
        open("/dev/full", "w") as full,
    ):
        full.write("x" * 10_000)
    assert (tmp_path / "a.txt").read_text() == "old"


def test_weights_that_find_the_disk_full_are_one_line(tmp_path: Path) -> None:
    error = "Error while serializing: I/O error: No space left on device (os error 28)"  # the library's own words
    with pytest.raises(UsageError, match="disk is full"), whole_folder(tmp_path / "run"):
        raise SafetensorError(error)
    assert names(tmp_path) == []


def ended_process() -> int:
    """Return the number of a process that is no more."""
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_hidden_files_of_the_user_are_not_swept(tmp_path: Path) -> None:
    dead = ended_process()
    own = files._prefix(tmp_path / "model").removesuffix(f"-{os.getpid()}.")
    kept = [
        ".model.2023.backup", ".model.20240501.tar", f".model.{dead}.xyz", f"{own}-{os.getpid()}.abcdefgh",
        f"{own}x-{dead}.abcdefgh", f".model.ranp-elsewhere-{dead}.abcdefgh", f"{own}-{dead}.notes.txt",
        f"{own}-{dead}.", f".model2{own.removeprefix('.model')}-{dead}.abcdefgh", f".ranp-{dead}.abcdefgh",
    ]  # fmt: skip
    for name in kept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "work").write_text("of weeks")
    (tmp_path / f"{own}-{dead}.abcdefgh").write_text("half")
    (tmp_path / f"{own}-{dead}.ijklmnop").mkdir()
    with whole_folder(tmp_path / "model") as folder:
        (folder / "one").write_text("1")
    with whole_file(tmp_path / "model.txt") as temporary:
        temporary.write_text("1")
    assert names(tmp_path) == sorted([*kept, "model", "model.txt"])
    assert all((tmp_path / name / "work").read_text() == "of weeks" for name in kept)
