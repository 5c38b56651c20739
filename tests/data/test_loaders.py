"""Loaders of the user's own: what they may return, and what is said of anything else."""

import random
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from ranp.data.loaders import load, names_loader
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

CODE = """
    import random
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    calls = []

    def pairs(count: int = 3, size: int = 4):
        calls.append("pairs")
        return [(torch.full((2, 1, size), float(k)), torch.zeros(2, size, dtype=torch.int64)) for k in range(count)]

    def shuffled():
        calls.append("shuffled")
        return DataLoader(TensorDataset(torch.arange(12.0), torch.arange(12)), batch_size=4, shuffle=True)

    def generated():
        calls.append("generated")
        for k in range(3):
            drawn = torch.rand(2) + random.random() + np.random.rand()
            yield drawn, torch.tensor([k, k])

    def dicts(image="image", label="label"):
        for batch in pairs():
            yield {image: batch[0], label: batch[1], "name": ["a", "b"]}

    def several():
        yield {"t1": torch.zeros(1), "t2": torch.ones(1), "seg": torch.zeros(1)}

    def late():
        import neighbour_of_loaders
        yield torch.zeros(1), torch.zeros(1)

    def fails(): raise KeyError("no luck")
    def fails_later():
        yield torch.zeros(1), torch.zeros(1)
        raise KeyError("no luck")
    def nothing(): return None
    def number(): return 3
    def a_dict(): return {"image": torch.zeros(1), "label": torch.zeros(1)}
    def a_tensor(): return torch.zeros(3, 2)
    def empty(): return []
    def tensors(): return [torch.zeros(2)]
    def three(): return [(torch.zeros(1),) * 3]
    def arrays(): return [(np.zeros(2), torch.zeros(2))]
    def targets(): return [(torch.zeros(2), 3)]
    def needs(folder): return pairs()
    ready = [1, 2]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "loaders.py"
    path.write_text(textwrap.dedent(CODE))
    (tmp_path / "neighbour_of_loaders.py").write_text("")
    return path


def test_pairs_as_they_are_and_settings(file: Path) -> None:
    batches = list(load(f"{file}:pairs", {"count": 2, "size": 5}))
    assert [inputs.unique().tolist() for inputs, _ in batches] == [[0.0], [1.0]]
    assert batches[0][0].shape == (2, 1, 5)
    assert batches[0][1].dtype == torch.int64


def test_an_iterable_is_made_once_and_read_again(file: Path) -> None:
    loader = load(f"{file}:shuffled", seed=3)
    first, second = list(loader), list(loader)
    assert len(first) == len(loader) == 3
    assert all(torch.equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True))
    assert loader.function.__globals__["calls"] == ["shuffled"]
    assert torch.cat([inputs for inputs, _ in first]).sort().values.tolist() == list(range(12))
    other = list(load(f"{file}:shuffled", seed=4))
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_what_can_be_read_once_only_is_made_again(file: Path) -> None:
    loader = load(f"{file}:generated")
    first, second = list(loader), list(loader)
    assert [target.tolist() for _, target in first] == [[0, 0], [1, 1], [2, 2]]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    assert loader.function.__globals__["calls"] == ["generated"] * 3  # the look at the first batch, and two readings
    with pytest.raises(TypeError, match="without saying how many"):
        len(loader)


def test_two_readings_at_once_draw_their_own_numbers(file: Path) -> None:
    loader = load(f"{file}:generated")
    expected = [inputs for inputs, _ in loader]
    one, two = iter(loader), iter(loader)
    mixed = [next(one), next(two), next(two), next(one), next(two), next(one)]
    for place, k in zip(mixed, (0, 0, 1, 1, 2, 2), strict=True):
        assert torch.equal(place[0], expected[k])


def test_the_generators_of_others_stay(file: Path) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    path = list(sys.path)
    list(load(f"{file}:generated", seed=2**63))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert sys.path == path


def test_dicts_and_their_keys(file: Path) -> None:
    assert len(list(load(f"{file}:dicts"))) == 3
    named = load(f"{file}:dicts", {"image": "t1", "label": "seg"}, ("t1", "seg"))
    assert torch.equal(next(iter(named))[0], torch.zeros(2, 1, 4))
    inputs, target = next(iter(load(f"{file}:several", keys=(("t1", "t2"), "seg"))))
    assert (len(inputs), target.tolist()) == (2, [0.0])
    with pytest.raises(UsageError, match=r"has no 'image': name those of the inputs and the target with --keys"):
        load(f"{file}:several")


def test_no_more_batches_than_asked_for(file: Path) -> None:
    loader = load(f"{file}:pairs", batches=2)
    assert len(list(loader)) == len(loader) == 2
    assert len(list(load(f"{file}:generated", batches=7))) == 3


def test_imports_while_it_runs(file: Path) -> None:
    assert len(list(load(f"{file}:late"))) == 1


def test_modules_of_the_current_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    file.rename(file.parent / "loaders_of_mine.py")
    assert names_loader("loaders_of_mine:pairs")
    assert len(list(load("loaders_of_mine:pairs"))) == 3


def test_what_names_a_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_loader("anything.py:function")
    assert names_loader("package.module:function")
    assert names_loader("folder/file.py:function")
    assert not names_loader("nnunet:folder", ["nnunet"])
    assert not names_loader("nnunnet:folder")
    assert not names_loader("shapenet:/data/x.y")
    assert not names_loader("folder")
    assert not names_loader("__main__:function")
    (tmp_path / "file.py:function").mkdir()
    assert not names_loader("file.py:function")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nothing",
            r"returned nothing; expected an iterable of batches, each \(inputs, target\), or a dict of tensors",
        ),
        ("number", r"returned an int; expected an iterable of batches"),
        ("a_dict", r"returned a dict; expected an iterable of batches"),
        ("a_tensor", r"returned a Tensor; expected an iterable of batches"),
        ("empty", r"returned no batches; expected an iterable of batches"),
        ("tensors", r"batch 1 is a Tensor; expected \(inputs, target\), or a dict .*other names by --keys"),
        ("three", r"batch 1 is a tuple of 3; expected \(inputs, target\)"),
        ("arrays", r"batch 1: its inputs hold a ndarray; expected tensors"),
        ("targets", r"batch 1: its target hold an int; expected tensors"),
        ("fails", r"loaders.py:fails: KeyError: 'no luck' \(.*loaders.py:\d+ in fails\)"),
        ("ready", r"is a list; expected a function that returns an iterable of batches"),
        ("pears", r"has no 'pears'; did you mean 'pairs'"),
        ("needs", r"loaders.py:needs needs --set-data folder=..."),
    ],
)
def test_mistakes(file: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as info:
        load(f"{file}:{name}")
    assert "\n" not in str(info.value)
    assert name == "needs" or str(info.value).startswith(f"--data {file}:{name}: ")


def test_mistakes_of_settings_files_and_later_batches(file: Path) -> None:
    with pytest.raises(UsageError, match=r"--set-data sise: .*loaders.py:pairs takes count, size; did you mean 'size'"):
        load(f"{file}:pairs", {"sise": 3})
    with pytest.raises(UsageError, match=r"--set-data size='x': .*loaders.py:pairs expects int"):
        load(f"{file}:pairs", {"size": "x"})
    with pytest.raises(UsageError, match=r"--data nowhere.py:f: no file nowhere.py"):
        load("nowhere.py:f")
    with pytest.raises(UsageError, match=r"write .*loaders.py:function for a function in that file"):
        load(str(file))
    with pytest.raises(UsageError, match=r"--data .*: batch 2: KeyError: 'no luck'"):
        list(load(f"{file}:fails_later"))


def test_what_a_runs_files_name_is_never_called(file: Path) -> None:
    file.write_text(f"open({str(file.parent / 'ran')!r}, 'w').close()\ndef pairs(): return []\n")
    with pytest.raises(UsageError, match=r"never make ranp call this loader by themselves; repeat it with --data"):
        load(f"{file}:pairs", trusted=False)
    assert not (file.parent / "ran").exists()
    with pytest.raises(UsageError, match=r"returned no batches"):
        load(f"{file}:pairs")
    assert (file.parent / "ran").exists()
