"""How a path becomes a dataset of the layout it is known by, or called."""

from pathlib import Path

import pytest

from ranp.data.layouts import LAYOUTS, open_dataset
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def mug(root: Path) -> Path:
    for kind, text in (("points", "0 0 0\n1 1 1\n"), ("points_label", "1\n2\n")):
        (root / "Mug" / kind).mkdir(parents=True)
        (root / "Mug" / kind / f"a.{'pts' if kind == 'points' else 'seg'}").write_text(text)
    return root


def test_words_are_told_apart() -> None:
    words = [each.word for each in LAYOUTS]
    assert len(set(words)) == len(words) > 0
    assert all(each.looks_like for each in LAYOUTS)


def test_known_by_its_names_or_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mug(tmp_path / "shapes: mine")
    assert [case.name for case in open_dataset(str(root)).cases] == ["Mug/a"]  # a colon in a path that exists
    assert [case.name for case in open_dataset(f"shapenet:{root}").cases] == ["Mug/a"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [case.name for case in open_dataset("shapenet:~/shapes: mine").cases] == ["Mug/a"]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--data shapnet:x: no layout is called 'shapnet'; .*did you mean 'shapenet'"):
        open_dataset("shapnet:x")
    with pytest.raises(UsageError, match=r"--data shapenet:: names nothing behind the colon; expected shapenet:PATH"):
        open_dataset("shapenet:")
    with pytest.raises(UsageError, match=r"--data nowhere: no file or folder nowhere"):
        open_dataset("nowhere")
    with pytest.raises(UsageError, match=r"--data shapenet:nowhere: no file or folder nowhere"):
        open_dataset("shapenet:nowhere")
    with pytest.raises(
        UsageError, match=r"of no layout that is known; looked for .*shapenet \(02691156/points"
    ) as info:
        open_dataset(str(tmp_path))
    assert str(info.value).endswith(f"name the one it is: LAYOUT:{tmp_path}")
