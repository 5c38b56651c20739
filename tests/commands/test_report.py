import json
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ranp import runs
from ranp.commands.main import app
from ranp.report._reproduce import command_line

SMALL = ["unet2d", "--set", "base_width=4", "--set", "depth=2", "--in-channels", "1", "--classes", "3"]
SIZE = ["--patch", "16", "--batches", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "a run"
    options = ["--sparsity", "0.2", "--reweight", "flops", "--freeze", "encoder.0.*", "--seed", "3", "--out", str(path)]
    result = CliRunner().invoke(app, ["prune", *SMALL, *SIZE, *options])
    assert result.exit_code == 0, result.output
    return path


class Code(HTMLParser):
    """The text of the page's last `pre`."""

    inside, text = False, ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "pre":
            self.inside, self.text = True, ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


def test_writes_the_page_with_what_compare_found(run: Path) -> None:
    assert CliRunner().invoke(app, ["compare", str(run)]).exit_code == 0
    result = CliRunner().invoke(app, ["report", str(run)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {run / 'report.html'}\n"
    page = (run / "report.html").read_text()
    assert "Methods at the same sparsity" in page
    found = json.loads((run / "compare.json").read_text())
    ranp_f = next(row for row in found["rows"] if row["name"] == "RANP-f")
    assert f"{ranp_f['costs']['standard']['params']:,}" in page
    assert ranp_f["costs"]["standard"] == runs.read(run).report.slim.to_dict()  # what the run itself is
    assert found["sparsity"] == 0.2


def test_the_command_on_the_page_makes_the_same_plan(run: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["report", str(run)])
    code = Code()
    code.feed((run / "report.html").read_text())
    words = shlex.split(code.text)
    assert words == shlex.split(command_line(runs.read(run).config))
    assert words[:3] == ["ranp", "prune", "unet2d"]
    again = tmp_path / "again"
    result = CliRunner().invoke(app, [*words[1:], "--out", str(again)])
    assert result.exit_code == 0, result.output
    assert (again / "plan.json").read_bytes() == (run / "plan.json").read_bytes()


def test_two_runs_and_json(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    result = CliRunner().invoke(app, ["report", str(run), str(run), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"out": str(out), "dry_run": False}
    assert "Options that differ" in out.read_text()


def test_measured_times_are_kept_in_the_run(run: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run), "--measure"])
    assert result.exit_code == 0, result.output
    found, page = runs.read(run).report["latency"], (run / "report.html").read_text()
    assert f"{found['full']['median_ms']:.3g} ms" in page
    assert "Forward on cpu" in page
    assert found["slim"]["runs"] >= 1
    runs.read(run).check_hashes()
    refused = CliRunner().invoke(app, ["report", str(run), "--measure", "--device", "nowhere"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_dry_run_writes_nothing(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "page.html"), "--dry-run"])
    assert result.exit_code == 0
    assert result.stdout.startswith("dry run: would write ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["nowhere"], "nowhere: no such run folder"),
        (["RUN", "nowhere"], "nowhere: no such run folder"),
        (["RUN", "--compare", "nowhere.json"], "--compare nowhere.json: No such file"),
        (["RUN", "--out", "nowhere/page.html"], "no folder nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(given: list[str], words: str, run: Path) -> None:
    result = CliRunner().invoke(app, ["report", *(str(run) if word == "RUN" else word for word in given)])
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
