import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = ["unet3d", "--set", "base_width=4", "--set", "depth=2", "--classes", "3", "--input", "8"]
Call = Callable[..., Any]


def test_groups_are_told_by_the_layers_that_make_and_read_them(ranp: Call, answer: Call) -> None:
    found = answer("inspect", *SMALL)
    groups = {each["name"]: each for each in found["groups"]}
    skip = groups["encoder.0.1.0"]
    assert skip["width"] == 4
    assert skip["makes"] == ["encoder.0.1.0"]
    assert skip["carries"] == ["encoder.0.1.1"]
    assert sorted(skip["reads"]) == ["decoder.0.a.0", "encoder.1.1.0"]
    assert groups["final"]["frozen"] == {"network output": 3}
    text = ranp("inspect", *SMALL).stdout
    assert "network output" in text
    assert "7 layers" in text


def test_one_module_is_shown_in_full(ranp: Call, answer: Call, refused: Call) -> None:
    assert [each["name"] for each in answer("inspect", *SMALL, "--module", "final")["groups"]] == [
        "decoder.0.b.0",
        "final",
    ]
    text = ranp("inspect", *SMALL, "--module", "encoder.0.1.0").stdout
    assert "carried by encoder.0.1.1" in text
    assert "did you mean" in refused("inspect", *SMALL, "--module", "encoder.0.1.9")


def test_what_the_user_fixed_says_so(answer: Call) -> None:
    groups = {each["name"]: each for each in answer("inspect", *SMALL, "--freeze", "encoder.1.*")["groups"]}
    assert groups["encoder.1.1.0"]["frozen"] == {"fixed by the user (encoder.1.*)": 4}


def test_the_coupling_is_drawn(ranp: Call, refused: Call, tmp_path: Path) -> None:
    dot, svg = tmp_path / "coupling.dot", tmp_path / "coupling.svg"
    ranp("inspect", *SMALL, "--dot", dot, "--svg", svg)
    text = dot.read_text()
    assert text.startswith("digraph coupling {")
    assert '"group encoder.0.1.0" -> "decoder.0.a.0";' in text
    tree = ElementTree.parse(svg)
    circles = [each for each in tree.iter() if each.tag.endswith("circle")]
    assert len([each for each in circles if each.get("class") == "makes"]) == 7
    assert "--svg" in refused("inspect", *SMALL, "--svg", svg)


def test_narrow_terminals_break_no_name(monkeypatch: pytest.MonkeyPatch, ranp: Call) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = ranp("inspect", *SMALL).stdout.splitlines()
    assert "encoder.0.1.0: 4 channels" in lines
    assert "  read by    decoder.0.a.0, encoder.1.1.0" in lines
    monkeypatch.setenv("COLUMNS", "100")
    assert ranp("inspect", *SMALL).stdout.startswith("group ")


def test_rows_of_the_picture_stand_in_the_networks_order(ranp: Call, tmp_path: Path) -> None:
    ranp("inspect", *SMALL, "--svg", tmp_path / "coupling.svg")
    texts = [e.text for e in ElementTree.parse(tmp_path / "coupling.svg").iter() if e.get("text-anchor") == "end"]
    encoder = ["encoder.0.0.0", "encoder.0.1.0", "encoder.1.1.0", "encoder.1.2.0"]
    assert texts == [*encoder, "decoder.0.a.0", "decoder.0.b.0", "final"]


def test_of_a_run_it_shows_the_slim_network(answer: Call, ranp: Call, refused: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = [word for word in SMALL if word not in ("--input", "8")]
    ranp("prune", *small, "--patch", "8", "--method", "l1", "--sparsity", "0.4", "--out", run)
    kept = {each["name"]: len(each["kept"]) for each in json.loads((run / "plan.json").read_text())["groups"]}
    assert {each["name"]: each["width"] for each in answer("inspect", run)["groups"]} == {
        name: width
        for name, width in kept.items()
        if width > 1  # a single channel can't go, and is no group
    }
    assert "--model" in refused("inspect", *SMALL, "--model", "unet3d")
