"""The drop rule and masks: random gates, the fallback, merged stages, files, other encoders."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranp.adapters.connectivity import (
    ConnectivityMask,
    Source,
    Tap,
    apply_drop_rule,
    draw,
    drop,
    every_edge,
    every_source,
    from_edges,
    transfer,
)
from ranp.errors import UsageError

GLOBAL = Source("G", 0)


def taps(*strides: int) -> tuple[Tap, ...]:
    return tuple(Tap(f"at{stride}", 4 + place, (stride, stride)) for place, stride in enumerate(strides))


@st.composite
def gates(draw_: Any) -> list[list[float]]:
    levels = draw_(st.integers(1, 6))
    gate = st.sampled_from([0.0, 0.0, 0.0, 1e-3, 0.01, 0.5, 2.0])
    return [draw_(st.lists(gate, min_size=2 * i + 2, max_size=2 * i + 2)) for i in range(levels)]


@settings(max_examples=200)
@given(gates(), st.booleans(), st.booleans())
def test_what_is_left_is_a_decoder_without_dangling_stages(rows: list[list[float]], merge: bool, subset: bool) -> None:
    left = apply_drop_rule(rows, merge=merge, subset=subset)
    output = len(rows) - 1
    assert left.edges[output]
    used = {source.level for sources in left.edges.values() for source in sources if source.kind == "D"}
    assert used | {output} == set(left.edges)
    under = {
        (stage, source)
        for stage, row in enumerate(rows)
        for source, gate in zip(every_source(stage), row, strict=True)
        if gate / 2 <= 1e-3
    }
    kept = {(stage, source) for stage, sources in left.edges.items() for source in sources}
    redirected = {(stage, Source("D", twin)) for stage in left.edges for twin in left.merged.values()}
    assert kept & under <= set(left.fallen_back) | redirected
    if merge:
        inputs = [frozenset(sources) for stage, sources in left.edges.items() if stage != output]
        assert subset or len(set(inputs)) == len(inputs)


def test_an_output_without_inputs_falls_back_and_says_so() -> None:
    rows = [[0.3, 0.0], [0.0, 0.0, 0.0, 0.002], [0.0001, 0.0, 0.0, 0.0, 0.0, 0.0015]]
    left = apply_drop_rule(rows)
    assert left.edges == {0: (Source("E", 0),), 1: (Source("D", 0),), 2: (Source("D", 1),)}
    assert left.fallen_back == ((2, Source("D", 1)), (1, Source("D", 0)))
    with pytest.raises(UsageError, match="no connection to the output stage is left"):
        apply_drop_rule(rows, fallback=False)


def test_equal_stages_become_the_deeper_one_and_users_read_that() -> None:
    rows = [[1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.0] * 5 + [1.0, 1.0, 1.5]]
    left = apply_drop_rule(rows, subset=False)
    assert left.merged == {1: 0}
    assert left.edges == {
        0: (Source("E", 0),),
        2: (Source("E", 1), Source("D", 0)),
        3: (Source("D", 0), Source("E", 3), Source("D", 2)),
    }
    mask = drop(rows, taps(16, 8, 4, 2), width=4, subset=False)
    assert mask.edge(3, Source("D", 0)).stands_for == (1,)
    assert mask.edge(2, Source("D", 0)).stands_for == (0,)
    assert set(apply_drop_rule(rows, merge=False, subset=False).edges) == {0, 1, 2, 3}


def test_a_stage_with_less_to_say_than_another_goes() -> None:
    rows = [[1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]]
    left = apply_drop_rule(rows)
    assert left.subsumed == {0: 1}
    assert set(left.edges) == {1, 2}
    assert set(apply_drop_rule(rows, subset=False).edges) == {0, 1, 2}


@pytest.mark.parametrize(
    ("rows", "threshold", "words"),
    [([[1.0]], 0.1, "gates: 1 of stage 0; expected 2"), ([[1.0, 1.0]], 1.0, "threshold=1: expected a share")],
)
def test_wrong_gates_are_refused(rows: list[list[float]], threshold: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        apply_drop_rule(rows, threshold)


def searched() -> ConnectivityMask:
    rows = [[1.0, 1e-4], [0.4, 0.0, 1.2, 0.0], [0.0, 0.9, 0.0, 1e-3, 0.0, 2.0]]
    return drop(rows, taps(8, 4, 2), width=16)


def test_a_mask_survives_its_file(tmp_path: Path) -> None:
    mask = searched()
    mask.save(tmp_path / "mask.json")
    assert ConnectivityMask.load(tmp_path / "mask.json") == mask
    assert mask.kept == {1: (Source("E", 0), Source("E", 1)), 2: (GLOBAL, Source("D", 1))}
    assert mask.gap == (5e-4, 0.2)
    assert len(mask.edges) == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(width=0), "not a connectivity mask"),
        (lambda m: m["edges"].append({"stage": 0, "kind": "D", "level": 1}), "stage 0 takes D1, which is not there"),
        (lambda m: m.update(edges=[{"stage": 0, "kind": "G", "level": 0}]), "make no decoder"),
        (lambda m: m.update(edges=[{"stage": 2, "kind": "D", "level": 0}]), "make no decoder"),
    ],
)
def test_files_that_are_no_masks_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    values = json.loads(searched().to_json())
    change(values)
    (tmp_path / "mask.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match=words):
        ConnectivityMask.load(tmp_path / "mask.json")


def test_connections_go_to_the_features_of_the_same_stride() -> None:
    mask = searched()
    same = transfer(mask, (Tap("x", 9, (8, 8)), Tap("y", 9, (4, 4)), Tap("z", 9, (2, 2))))
    assert same.kept == mask.kept
    deeper = transfer(mask, taps(16, 8, 4, 2, 1))  # one deeper, one finer
    assert [tap.stride[0] for tap in deeper.features] == [16, 8, 4, 2]
    assert deeper.kept == {2: (Source("E", 1), Source("E", 2)), 3: (GLOBAL, Source("D", 2))}
    coarser = transfer(mask, taps(32, 8, 4))  # without the output's stride
    assert coarser.kept == {2: (Source("E", 1), Source("E", 2))}


def test_an_ambiguous_or_empty_match_is_refused_in_one_line() -> None:
    with pytest.raises(
        UsageError, match=r"taps: 1 and 2 of stride 4 \(at4/4, at4/4, at4/4\); expected as many of each"
    ):
        transfer(searched(), taps(8, 4, 4, 2))
    with pytest.raises(UsageError, match="no connection of the mask fits the features at7/7, at5/5"):
        transfer(searched(), taps(7, 5))


def test_the_picture_has_every_connection_and_names_what_went() -> None:
    mask = searched()
    svg = draw(mask)
    assert svg.count("<path") == sum(map(len, mask.kept.values()))
    assert svg.count("dropped") == 1
    assert "stage at at4/4 to stage 2, gate 2" in svg
    assert draw(from_edges(taps(4, 2), every_edge(2), 8)).count("<path") == 6
