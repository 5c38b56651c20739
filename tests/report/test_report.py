"""The pages: they parse, load nothing, escape everything, and hold the numbers of their runs."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import small

import ranp
from ranp import runs
from ranp.errors import UsageError
from ranp.report import write_report
from ranp.report._charts import Axis, Bar, bars, short
from ranp.report._curves import Curve, _powers, _round_marks, curves
from ranp.report._markup import element
from ranp.report._reproduce import command_line
from ranp.report.contact import Tile
from ranp.report.samples import packed

image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

EVIL = "<script>alert('x')</script> & \"quoted\""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ONNX = {
    "file": "slim.onnx",
    "sha256": "0" * 64,
    "bytes": 2048,
    "opset": 20,
    "sizes": {"batch": "n", "height": "2n"},
    "tolerance": {"max_rel_diff": 1e-3, "agreement": 0.9999},
    "parity": [{"shapes": [[1, 1, 12, 12]], "max_abs_diff": 1.5e-7, "max_rel_diff": 2.5e-7, "agreement": None}],
    "passed": True,
    "note": "",
}
COMPARISON = {
    "model": "residual", "preset": None, "input": [[1, 12, 12]], "batch": 2, "method": "mpmg", "data": "phantom",
    "batches": 2, "sparsity": 0.5, "sparsity_of": "RANP-f",
    "rows": [
        {"name": "full", "status": "ok", "reason": "", "maximum": None, "achieved": 0.0,
         "costs": {"standard": {"params": 1234, "flops": 5_000_000, "memory_bytes": 4096}}},
        {"name": "RANP-f", "status": "ok", "reason": "", "maximum": 0.5, "achieved": 0.48,
         "costs": {"standard": {"params": 321, "flops": 1_000_000, "memory_bytes": 1024}}},
        {"name": "vanilla", "status": "infeasible", "reason": "the largest is 0.25", "maximum": 0.25,
         "achieved": None, "costs": {}},
    ],
}  # fmt: skip


class Balanced(HTMLParser):
    """Fails where tags do not close in order; collects text and attributes."""

    VOID = frozenset({"meta", "link", "br", "hr", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def make_run(
    path: Path, extra: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **goal: Any
) -> Path:
    network, example = small("residual2d")
    goal = {"sparsity": 0.3, "reweight": "flops", **goal}
    result = ranp.prune(network, example, method="l1", **goal)
    report = {"model": "residual", "preset": None, "input": [[1, 12, 12]], "batch": 2, **result.report.to_dict()}
    ranp.save(path, result.slim, result.plan, {**report, **(extra or {})}, config or {"model": "residual", **goal})
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first", {"onnx": ONNX})


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "second", sparsity=0.1, reweight=None)


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    beside = tmp_path_factory.mktemp("pages")
    (beside / "table.json").write_text(json.dumps(COMPARISON))
    return write_report(run, comparison=beside / "table.json", out=beside / "page.html").read_text()


@pytest.fixture(scope="module")
def pair(run: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(run, other, out=tmp_path_factory.mktemp("pages") / "pair.html").read_text()


TILES = [
    Tile("case 1\ninput", np.full((2, 3, 3), 1.0)),
    Tile("case 1\ntruth", np.full((2, 3, 3), 1.0), np.array([[-1, 1, 1], [2, 2, -1]])),
    Tile(f"{EVIL}\nprediction", np.zeros((2, 3, 3)), np.array([[1, -1, -1], [-1, -1, -1]])),
]
CURVE = [{"step": 1, "loss": 4.0, "lr": 0.1}, {"step": 2, "loss": 1.0, "lr": 0.1}]
VALIDATIONS = [{"step": 2, "score": 0.5, "dice/liver": 0.25, "dice/spleen": 0.75}]
SAID = {
    "done": True, "trained_on": "4 cases", "validated_on": "2 cases of nowhere", "unseen": ["gall bladder"],
    "never": ["stomach"], "loss": "ce-dice", "steps": 2, "seed": 0, "data": {}, "curve": CURVE,
    "options": {"optimizer": "adamw", "lr": 0.1, "schedule": "cosine"}, "validations": VALIDATIONS,
    "best": {"step": 2, "score": 0.5}, "seconds_per_step": 0.5, "samples_per_second": 4.0,
    "peak_memory": {"bytes": 2**30, "of": "the process"},
    "command": {"model": "runs/slim", "steps": 2, "settings": {"a": 1}, "full": "own.py:net", "out": "runs/trained"},
}  # fmt: skip
ROUND = {"flops": 2000, "memory_bytes": 4096, "best": SAID["best"], "validations": VALIDATIONS, "curve": CURVE}
ROUNDS = [{"round": 1, "sparsity": 0.25, "params": 987, **ROUND}, {"round": 2, "sparsity": 0.5, "params": 654, **ROUND}]


def make_trained(path: Path, **more: Any) -> Path:
    base = runs.read(make_run(path))
    weights = {runs.TRAINED: base.weights(), runs.LAST: base.weights()}
    names = ["background", "liver", "spleen"]
    runs.save_trained(path, base, weights, {**SAID, **more}, "step\n", "2 steps", packed(TILES, names))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(make_trained(tmp_path_factory.mktemp("runs") / "trained", rounds=ROUNDS)).read_text()


def pixels(page: str) -> list[Any]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_the_page_of_a_training_has_its_curves_and_pictures(trained: str) -> None:
    parsed = Balanced(trained)
    loading = [value for _, name, value in parsed.attributes if name in ("src", "href", "srcset", "data")]
    assert all(str(value).startswith("data:") for value in loading)
    assert not re.search(r"https?:|<script|@import|url\(", trained)
    for words in ("4 cases", "gall bladder", "stomach", "ce-dice", "2 in each of 2 rounds", "0.5000 at step 2"):
        assert words in parsed.text
    for words in ("987", "0.2500", "654", "The first of 2 cases of nowhere", "liver", "spleen"):
        assert words in parsed.text
    assert html.escape(EVIL) in trained
    loss = re.findall(r'<polyline points="([^"]+)" class="curve c0"', trained)[0].split(" ")
    places = [tuple(map(float, place.split(","))) for place in loss]
    assert [x for x, _ in places] == pytest.approx([137.5, 229.0, 320.5, 412.0]), "steps 1 to 4 of 4, over both rounds"
    assert [y for _, y in places] == pytest.approx([10.0, 186.0, 10.0, 186.0]), "an axis from 1 to 4"
    assert trained.count('class="round"') == 3, "each chart says where the second round begins"
    command = "ranp train runs/slim --set a=1 --steps 2 --model own.py:net --out runs/trained"
    assert command in " ".join(parsed.text.split())


def test_labels_are_coloured_as_bright_as_the_picture(trained: str) -> None:
    white, truth, dark = pixels(trained)
    blue, orange = [0x56, 0xB4, 0xE9], [0xE6, 0x9F, 0x00]
    assert white.tolist() == [[[255] * 3] * 3] * 2
    assert truth.tolist() == [[[255] * 3, blue, blue], [orange, orange, [255] * 3]]
    assert dark[0, 0].tolist() == [round(0.35 * value) for value in blue]
    assert not dark[1].any()


def test_without_pillow_a_page_says_how_to_get_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_trained(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    text = Balanced(write_report(folder).read_text()).text
    assert "PIL is not installed: pip install 'ranp[pictures]'" in text
    assert "Loss" in text


def test_what_a_training_left_is_shown_as_it_was_written_or_refused(tmp_path: Path) -> None:
    for name in (runs.TRAINING, runs.SAMPLES, runs.METRICS):
        folder = make_trained(tmp_path / name)
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
        with pytest.raises(UsageError, match=f"{name}: changed since it was written"):
            write_report(folder)


def test_marks_lie_around_what_they_mark() -> None:
    for low, high in ((0.0, 0.0), (-3.0, 2.0), (1e-9, 2e-9), (5.0, 5000.0), (0.999, 1.001)):
        marks = _round_marks(low, high)
        assert marks[0] <= low <= high <= marks[-1]
        assert 2 <= len(marks) <= 7
    for low, high in ((1e-12, 1.0), (0.5, 40.0), (1.0, 1000.0)):
        marks = _powers(low, high)
        assert marks[0] <= low < high <= marks[-1]
        assert 2 <= len(marks) <= 7
    assert curves("t", [Curve("a", [(1, float("nan"))])]) is None


@pytest.mark.parametrize("which", ["page", "pair"])
def test_a_page_parses_and_loads_nothing(which: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(which)
    parsed = Balanced(text)
    loading = [(name, value) for _, name, value in parsed.attributes if name in ("src", "href", "srcset", "data")]
    assert loading == [("href", "data:,")]
    assert not re.search(r"https?:|<script|@import|url\(", text)
    assert "default-src 'none'" in html.unescape(text)


def test_it_holds_the_numbers(page: str, run: Path) -> None:
    found, text = runs.read(run), Balanced(page).text
    report = found.report
    for key in ("full", "slim"):
        assert f"{report[key]['params']:,}" in text
    assert f"{100 * (1 - report['slim']['params'] / report['full']['params']):.1f} % saved" in text
    assert f"achieved {report['sparsity']['achieved']:.4f}" in text
    for group in found.plan.groups:
        after = len(group.kept)
        assert (f"{group.width} → {after}" if after < group.width else f"{group.width}, whole") in text
    assert f"{report['verify']['max_rel_diff']:.1e} of how far the outputs vary" in text
    assert report["hashes"]["plan.json"] in text
    assert "network output" in text
    assert "2.5e-07" in text
    assert "Steps, together" in text


def test_importance_is_shown_at_every_stage(page: str, run: Path) -> None:
    plan, text = runs.read(run).plan, Balanced(page).text
    assert set(plan.stages) == {"weighted", "reweighted"}
    name, weighted = next(iter(plan.stages["weighted"].items()))
    factor = plan.stages["reweighted"][name]["mean"] / weighted["mean"]
    assert f"x {factor:.2f}" in text
    assert short(plan.scores[name]["mean"]) in text
    for title in ("Before weighting", "After weighting (Eq. 5.9)", "After reweighting (Eq. 5.10)"):
        assert title in text


def test_a_run_without_weighting_shows_its_scores_alone(tmp_path: Path) -> None:
    text = write_report(
        make_run(tmp_path / "run", weighting="none", reweight=None, sparsity=0.3, allow_less=True)
    ).read_text()
    assert "Before weighting" in text
    assert "After weighting" not in text


def test_methods_stand_side_by_side(page: str) -> None:
    text = Balanced(page).text
    for word in ("1,234", "321", "infeasible", "vanilla: the largest is 0.25", "the largest of RANP-f"):
        assert word in text


def test_the_comparison_in_the_run_folder_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "Methods at the same sparsity" not in write_report(folder).read_text()
    (folder / "compare.json").write_text(json.dumps(COMPARISON))
    assert "Methods at the same sparsity" in write_report(folder).read_text()


def test_every_word_of_a_user_is_escaped(tmp_path: Path, run: Path) -> None:
    extra = {"model": EVIL, "notes": [EVIL], "onnx": {**ONNX, "file": EVIL, "note": EVIL}}
    evil = make_run(tmp_path / "<b>bold", extra, {"model": EVIL, "settings": {"k": EVIL}})
    rows = [{**row, "name": EVIL, "reason": EVIL} for row in COMPARISON["rows"]]  # type: ignore[attr-defined]
    (evil / "compare.json").write_text(json.dumps({**COMPARISON, "model": EVIL, "rows": rows}))
    for path in (write_report(evil), write_report(evil, run), write_report(run, evil)):
        text = path.read_text()
        assert "<script" not in text
        assert "<b>" not in text
        assert EVIL in Balanced(text).text


def test_a_run_saved_from_python_has_a_page_too(tmp_path: Path, run: Path) -> None:
    network, example = small("residual2d")
    result = ranp.prune(network, example, method="l1", sparsity=0.3)
    path = ranp.save(tmp_path / "mine", result.slim, result.plan, result.report.to_dict())
    text = Balanced(write_report(path).read_text()).text
    assert f"{result.plan.model}: slim by ranp" in text
    assert "batch 2 of 1x12x12" in text
    assert "It was saved from Python." in text
    assert result.plan.model in Balanced(write_report(path, run).read_text()).text


def test_it_says_what_was_scored_on_and_where_the_weights_come_from(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    trained = {"file": "last.ckpt", "sha256": "0" * 64, "loaded": "last.ckpt: 12 tensors under 'state_dict'"}
    runs.read(folder).enter({"scored_on": "2 NIfTI images (8 batches of 1, 64x64x64)", "trained": trained})
    text = Balanced(write_report(folder).read_text()).text
    assert "2 NIfTI images (8 batches of 1, 64x64x64)" in text
    assert "trained, last.ckpt: 12 tensors under 'state_dict'" in text


def test_a_proof_of_nothing_is_no_failure_and_no_success(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name) for name in ("first", "second")]
    verify = runs.read(folders[1]).values["verify"]
    runs.read(folders[1]).enter({"verify": {**verify, "outputs": 1, "compared": 0}})
    text = Balanced(write_report(*folders).read_text()).text
    assert "NOT PROVED" in text
    assert "FAILED" not in text


def test_two_runs_say_what_differs(pair: str, run: Path, other: Path) -> None:
    text = Balanced(pair).text
    for path, letter in ((run, "A"), (other, "B")):
        slim, full = (runs.read(path).report[key]["params"] for key in ("slim", "full"))
        assert f"{slim:,}" in text
        assert f"{letter} saves {100 * (1 - slim / full):.1f} %" in text
    assert "reweight" in text
    first, second = (runs.read(path).plan.groups[0] for path in (run, other))
    assert f"{first.width} → {len(first.kept)} | {len(second.kept)}" in text


def test_where_the_pages_go(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    assert write_report(first, dry_run=True) == first / "report.html"
    assert not (first / "report.html").exists()
    assert write_report(first) == write_report(first) == first / "report.html"
    assert write_report(first, second) == first / "compare-b.html"
    assert sorted(path.name for path in first.iterdir())[:2] == ["compare-b.html", "config.yaml"]
    with pytest.raises(UsageError, match="exists: choose another name, or replace it with --force"):
        write_report(first, out=first / "report.html")
    with pytest.raises(UsageError, match="no folder"):
        write_report(first, out=tmp_path / "none" / "page.html")
    with pytest.raises(UsageError, match="two are given"):
        write_report(first, second, comparison=tmp_path / "table.json")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("report.json", "{}", "not a report of ranp: 'full' is missing"),
        ("report.json", '{"full": 3}', "not a report of ranp"),
        ("report.json", "[", "not JSON"),
        ("compare.json", "{}", "not a comparison of ranp"),
        ("compare.json", "[]", "expected an object"),
        ("compare.json", "nonsense", "not JSON"),
    ],
)
def test_a_damaged_file_is_one_line_and_the_page_that_was_there_stays(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run")
    before = write_report(folder).read_text()
    (folder / name).write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    assert (folder / "report.html").read_text() == before


def test_the_command_of_a_transfer() -> None:
    config = {"run": "runs/a b", "settings": {"channels": [16, 32]}, "keep_weights": True, "seed": 0, "out": "runs/b"}
    expected = "ranp transfer 'runs/a b' --set 'channels=[16, 32]' --keep-weights --seed 0 --out runs/b"
    assert command_line(config) == expected


def test_an_axis_holds_everything_and_survives_nothing() -> None:
    axis = Axis.of([{"min": 0.0, "mean": 1.0, "max": 100.0}, {"min": 1e-30, "mean": 2.0, "max": 3.0}])
    assert axis.logarithmic
    assert axis.place(0.0) == 0.0
    assert 0 < axis.place(1.0) < axis.place(100.0) <= 1
    assert 2 <= len(axis.ticks()) <= 5
    flat = Axis.of([{"min": 0.0, "mean": 0.0, "max": 0.0}])
    assert (flat.logarithmic, flat.place(0.0)) == (False, 0.0)
    assert len(Axis.of([{"min": 3.0, "mean": 3.0, "max": 3.0}]).ticks()) >= 2


def test_attributes_are_escaped() -> None:
    assert element("p", title='"><b>', class_=None) == '<p title="&quot;&gt;&lt;b&gt;"></p>'


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("which", ["page", "pair", "trained"])
@pytest.mark.parametrize("width", [400, 1200])
def test_chromium_shows_it_without_a_word_and_nothing_sticks_out(
    which: str, width: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The page stands in a frame, as it allows no script itself; the frame's parent measures it."""
    frame = element("iframe", id="page", srcdoc=request.getfixturevalue(which), style=f"width:{width}px;height:900px")
    measure = "const d = page.contentDocument; document.title = d.documentElement.scrollWidth + ' ' + d.title;"
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f"<!DOCTYPE html><body>{frame}<script>onload = () => {{{measure}}}</script></body>")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--window-size=1400,1000",
            "--dump-dom", wrapper.as_uri(),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"<title>(\d+) (.+?)</title>", done.stdout)
    assert found is not None
    assert int(found[1]) <= width
    assert "ranp" in found[2]
    assert "CONSOLE" not in done.stderr


def test_long_names_get_room_of_their_own() -> None:
    names = {"a": "bars brief", "layer1.conv": "bars", "model.1.submodule.1.conv.unit0": "bars long"}
    for name, kind in names.items():
        assert f'class="{kind}"' in bars([Bar(name, 1.0, "1")])


def test_a_file_that_changed_after_its_export_is_said_to_have(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    assert "has changed since" not in write_report(folder).read_text()
    (folder / "slim.onnx").write_text("another")
    assert "slim.onnx has changed since: export it again." in Balanced(write_report(folder).read_text()).text


def test_what_no_file_can_hold_is_written_as_an_escape(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", config={"model": "a\ud800b"})
    assert "\\ud800" in write_report(folder).read_text()
