"""`ranp search`: its run is a run, says how it was found, goes on after a stop; and the commands of its page run."""

import json
import re
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import forked_ranp

from ranp import processes, runs
from ranp.pipeline import CANDIDATES
from ranp.pipeline._trials import Trials
from ranp.training import Training

Call = Callable[..., Any]
NETWORK = ["unet3d", "--set", "base_width=4", "--set", "depth=2"]
SMALL = [*NETWORK, "--data", "shapes", "--classes", "3", "--patch", "8", "--batches", "1", "--min-width", "1"]
FEW = ["--candidates", "profile,weighted+l1,weighted+90%", "--steps", "3", "--seeds", "2", "--flops", "50%"]
PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text().replace("\\\n", "")


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    values = json.loads(json.dumps(values))
    for name in ("seconds", "out", "hashes"):
        values.pop(name)
    values["search"].pop("seconds")
    for row in values["search"]["rows"]:
        row.pop("step_ms", None)
    return values


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from ranp.commands.main import app

    out = tmp_path_factory.mktemp("search") / "run"
    done = CliRunner().invoke(app, ["search", *SMALL, *FEW, "--out", str(out), "--seed", "5"])
    assert done.exit_code == 0, done.output
    (out.parent / "stdout").write_text(done.stdout)
    (out.parent / "stderr").write_text(done.stderr)
    return out


def test_it_prints_candidates_and_progress_and_leaves_a_run(kept: Path) -> None:
    shown, progress = (kept.parent / "stdout").read_text(), (kept.parent / "stderr").read_text()
    assert re.search(r"^candidate +score +SD +seeds +steps +parameters +FLOPs +activations +ms a step", shown)
    assert re.search(r"^weighted\+90% .* infeasible$", shown, re.MULTILINE)
    assert re.search(r"^weighted\+90%: --flops 50%: the smallest network takes ", shown, re.MULTILINE)
    assert "limit that binds: flops 50%" in shown
    assert "verified: slim = masked" in shown
    assert "step: score, seed 6\n" in progress
    assert re.search(r"^step: round 1 of 1, training 1 of 6: uniform, seed 5: score \d\.\d+$", progress, re.MULTILINE)
    assert sorted(path.name for path in kept.iterdir()) == sorted(
        [
            runs.CONFIG,
            runs.PLAN,
            runs.WEIGHTS,
            runs.REPORT,
            runs.TRAINED,
            runs.LAST,
            runs.TRAINING,
            runs.METRICS,
            runs.SAMPLES,
        ]
    )
    table = runs.read(kept).report.search
    assert table is not None
    assert table.seeds == [5, 6]
    assert table.rows[0].name == table.winner
    assert f"{table.why}; the run is of seed {table.seed}" in shown


def test_the_run_is_one_as_train_leaves_it(kept: Path, ranp: Call, answer: Call) -> None:
    table = runs.read(kept).report.search
    assert table is not None
    assert answer("evaluate", kept, "--seed", 5)["score"] == pytest.approx(max(table.rows[0].scores), abs=1e-6)
    said = json.loads((kept / runs.TRAINING).read_text())
    assert (said["done"], said["steps"], said["seed"]) == (True, 3, table.seed)
    assert "verified" in ranp("verify", kept).stdout
    page = kept.parent / "page.html"
    ranp("report", kept, "--out", page)
    assert "What it won against" in page.read_text()
    assert "weighted+90%: --flops 50%: the smallest network takes" in page.read_text()


def test_its_config_is_the_prune_that_makes_the_same_plan(kept: Path, ranp: Call, tmp_path: Path) -> None:
    ranp("prune", "--config", kept / runs.CONFIG, "--out", tmp_path / "again")
    for name in (runs.PLAN, runs.WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (kept / name).read_bytes()


def test_memory_is_that_of_a_step_of_the_training(answer: Call, ranp: Call, tmp_path: Path) -> None:
    words = ["--candidates", "uniform", "--steps", 1, "--seeds", 1, "--train-memory", "80%", "--recipe", "nnunet"]
    found = answer("search", *SMALL, *words, "--out", tmp_path / "run")
    (limit,) = found["chosen"]["limits"]
    assert limit["name"] == "train_memory"
    assert limit["built"] <= limit["most"]
    ranp("prune", "--config", tmp_path / "run" / runs.CONFIG, "--out", tmp_path / "again")
    assert (tmp_path / "again" / runs.PLAN).read_bytes() == (tmp_path / "run" / runs.PLAN).read_bytes()


def test_training_it_by_hand_gives_the_same_weights(kept: Path, ranp: Call, tmp_path: Path) -> None:
    table = runs.read(kept).report.search
    assert table is not None
    slim = tmp_path / "slim"
    ranp("prune", "--config", kept / runs.CONFIG, "--out", slim)
    words = ["--data", "shapes", "--steps", 3, "--val-every", 3, "--seed", table.seed]
    ranp("train", slim, *words, "--out", tmp_path / "trained")
    by_hand, found = runs.read(tmp_path / "trained").weights(), runs.read(kept).weights()
    assert by_hand.keys() == found.keys()
    assert all(torch.equal(by_hand[name], found[name]) for name in found)


def test_a_stopped_search_is_resumed_or_replaced_by_the_command(
    kept: Path, answer: Call, refused: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ranp.pipeline import _trials

    words = ["search", *SMALL, *FEW, "--seed", "5", "--out", tmp_path / "run"]
    real, calls = _trials.train_, []

    def stopping(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_trials, "train_", stopping)
        from typer.testing import CliRunner

        from ranp.commands.main import app

        assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 130
    assert [path.name for path in (tmp_path / "run").iterdir()] == [runs.SEARCH]
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    assert "holds a search that was stopped; go on with --resume, or begin anew with --force" in refused(*words)
    assert "the search in" in refused(*words, "--resume", "--lr", "0.5")
    resumed = answer(*words, "--resume")
    whole = json.loads((kept / runs.REPORT).read_text())
    assert without_times(resumed) == without_times(whole)
    assert (tmp_path / "run" / runs.TRAINED).read_bytes() == (kept / runs.TRAINED).read_bytes()
    assert answer(*words, "--resume") == resumed
    again = answer(*words[:-1], tmp_path / "other", "--force")
    assert without_times(again) == without_times(whole)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "exists" in refused(*words[:-1], tmp_path / "mine", "--resume")


def test_a_dry_run_shows_the_rounds(ranp: Call, answer: Call, tmp_path: Path) -> None:
    words = ["search", *SMALL, "--flops", "10%", "--steps", "900", "--dry-run", "--out", tmp_path / "run"]
    found = answer(*words)
    assert sorted(found["candidates"]) == sorted(CANDIDATES)
    assert [each["candidates"] for each in found["rounds"]] == [13, 5, 2]
    assert [each["steps"] for each in found["rounds"]] == [100, 300, 900]
    assert found["validated_on"].startswith("shapes")
    assert "would write" in ranp(*words).stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a limit: --params, --flops"),
        (["--flops", "10%", "--candidates", "unifrom"], "--candidates unifrom: expected one of"),
        (["--flops", "10%", "--candidates", "uniform+exact"], "--candidates uniform+exact: --solver exact: finds"),
        (["--flops", "10%", "--eta", "1"], "--eta 1: expected a whole number of at least 2"),
        (["--flops", "0.001%"], None),
        (["--flops", "10%", "--data", "{own}:drawn", "--classes", "3"], "give --val or --fold: candidates are"),
    ],
)
def test_mistakes(refused: Call, tmp_path: Path, words: list[str], message: str | None) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\n"
        "def drawn():\n"
        "    return [(torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8, dtype=torch.long))]\n"
    )
    filled = [word.replace("{own}", str(own)) for word in words]
    given = ["search", *SMALL, "--steps", 2, "--out", tmp_path / "run", *filled]
    if message is None:
        assert refused(*given, code=3).startswith("--flops 0.001%: the smallest network takes ")
    else:
        assert message in refused(*given)
    assert not (tmp_path / "run").exists()


def test_a_run_is_refused(kept: Path, refused: Call, tmp_path: Path) -> None:
    said = refused("search", kept, "--flops", "10%", "--steps", 2, "--out", tmp_path / "run")
    assert said == f"MODEL {kept}: a run has its plan; name the network that is to be pruned"


SMALLER = ["--set", "base_width=4", "--set", "depth=2", "--patch", "8", "--batches", "1", "--min-width", "1"]
SMALLER += ["--steps", "2", "--flops", "60%", "--params", "60%", "--seeds", "2"]
"""Added to a search of the page, to be quick: what stands later wins."""


def volumes(root: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    generator = torch.Generator().manual_seed(0)
    entries = []
    for number in range(5):
        labels = torch.randint(0, 2, (9, 9, 9), generator=generator).numpy().astype("uint8")
        entry = {"image": f"./imagesTr/s{number}.nii.gz", "label": f"./labelsTr/s{number}.nii.gz"}
        for place, values in ((entry["image"], labels + 0.5), (entry["label"], labels)):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(
                nibabel.Nifti1Image(values, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), root / place
            )
        entries.append(entry)
    content = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "spleen"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(content))


def test_the_commands_of_the_page_in_their_order(ranp: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    volumes(tmp_path / "Task09_Spleen")
    lines = re.findall(r"^    ranp (.*)$", PAGE, flags=re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["search", "search", "search", "report", "evaluate"]
    for line in lines:
        words = shlex.split(line)
        ranp(*words, *(SMALLER if words[0] == "search" else []))
    assert (tmp_path / "runs" / "found" / "report.html").is_file()
    table = runs.read(tmp_path / "runs" / "found").report.search
    assert table is not None
    assert {row.name for row in table.rows} == set(CANDIDATES)


def test_two_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Trials.weights

    def late(*given: Any) -> Any:
        """Let the second process read the winner's weights when the first would long have put them into its run."""
        time.sleep(processes.rank())
        return read(*given)

    (line,) = re.findall(r"^    torchrun --standalone --nproc_per_node=2 -m ranp (.*)$", PAGE, flags=re.MULTILINE)
    words = [*shlex.split(line), *SMALLER, "--candidates", "profile,weighted"]
    for count, name in ((1, "one"), (2, "two")):
        (tmp_path / name).mkdir()
        with monkeypatch.context() as slowly:
            slowly.setattr(Trials, "weights", late)
            code, out, err = forked_ranp(*words, cwd=tmp_path / name, count=count)
        assert code == 0, err
        assert out.count("wrote") == 1
    one, two = (tmp_path / name / "runs" / "two" for name in ("one", "two"))
    for name in (runs.PLAN, runs.CONFIG, runs.WEIGHTS, runs.TRAINED):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    tables = [without_times(json.loads((run / runs.REPORT).read_text())) for run in (one, two)]
    assert tables[0] == tables[1]
    assert sorted(path.name for path in (tmp_path / "two" / "runs").iterdir()) == ["two"]


def test_the_snippet_of_the_page() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert names["found"].table.winner in ("uniform", "profile", "weighted")
    assert isinstance(names["Training"](steps=1), Training)


def test_the_page_names_the_candidates_and_the_rounds() -> None:
    (listed,) = re.findall(r"these are tried: (.*?)\.\n\n", PAGE, flags=re.DOTALL)
    assert tuple(re.findall(r"`([^`]+)`", listed)) == CANDIDATES
