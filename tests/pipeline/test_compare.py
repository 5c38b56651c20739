"""The table of the paper's methods against the choices it is made of."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import small
from torch import Tensor, nn

import ranp
from ranp import cost
from ranp.data import losses
from ranp.errors import UsageError
from ranp.pipeline import _compare as comparison
from ranp.pipeline._compare import METHODS, compare
from ranp.pipeline._peers import PEERS

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small("residual2d")[0]


@pytest.fixture(scope="module")
def batches(network: nn.Module) -> Batches:
    generator = torch.Generator().manual_seed(0)
    classes = network.get_submodule("head").out_channels
    images = [torch.randn(2, 1, 12, 12, generator=generator) for _ in range(2)]
    shape = network(images[0]).shape[2:]
    return [(image, torch.randint(classes, (2, *shape), generator=generator)) for image in images]  # type: ignore[arg-type]


INPUTS = torch.zeros(2, 1, 12, 12)


def rows_of(network: nn.Module, batches: Batches, **options: Any) -> dict[str, comparison.Row]:
    found = compare(network, INPUTS, batches, losses.get("ce"), **options)
    return {row.name: row for row in found.rows}


def test_rows_are_the_choices_that_prune_makes(network: nn.Module, batches: Batches) -> None:
    rows = rows_of(network, batches, sparsity=0.3)
    assert list(rows) == ["full", *METHODS]
    graph = ranp.trace(network, INPUTS)
    evaluate = cost.compile(graph)
    assert rows["full"].costs["standard"].to_dict() == evaluate(np.ones(graph.count, dtype=bool)).to_dict()
    for name in ("random", "SNIP", "weighted", "RANP-f"):
        method = "snip" if name == "SNIP" else "mpmg"
        scores = ranp.importance(network, graph, batches, losses.get("ce"), method=method)
        plan = ranp.select(graph, scores, sparsity=0.3, **METHODS[name])
        assert rows[name].costs["standard"].to_dict() == evaluate(plan.mask(graph)).to_dict(), name
        assert (rows[name].maximum, rows[name].achieved) == (plan.choice.maximum, plan.choice.achieved)


def test_under_limits_every_row_holds_them_beside_narrowing_by_hand(network: nn.Module, batches: Batches) -> None:
    found = compare(network, INPUTS, batches, losses.get("ce"), flops="40%", params="50%", min_width=1)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["full", *METHODS]
    assert {"uniform", "profile"} <= set(rows)
    assert (found.sparsity, found.limits) == (None, {"params": "50%", "flops": "40%"})
    assert found.goal == "limits params 50%, flops 40%"
    full = rows["full"].costs["standard"]
    for name in METHODS:
        assert rows[name].status == "ok", rows[name].reason
        assert rows[name].costs["standard"].flops <= 0.4 * full.flops
        assert rows[name].costs["standard"].params <= 0.5 * full.params
    impossible = rows_of(network, batches, flops="1%")
    assert all("the smallest network takes" in impossible[name].reason for name in METHODS)


def test_peers_are_cut_to_the_same_limits(network: nn.Module, batches: Batches) -> None:
    pytest.importorskip("torch_pruning")
    rows = rows_of(network, batches, flops="60%", min_width=1, peers=True)
    for name in PEERS:
        assert rows[name].status == "ok", rows[name].reason
        assert rows[name].costs["standard"].flops <= 0.6 * rows["full"].costs["standard"].flops


def test_each_method_is_scored_once(network: nn.Module, batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        scored.append(kwargs["method"])
        return ranp.importance(*args, **kwargs)

    monkeypatch.setattr(comparison, "importance", counted)
    rows_of(network, batches, sparsity=0.1)
    assert scored == ["mpmg", "snip"]
    scored.clear()
    rows_of(network, batches, sparsity=0.1, method="snip")
    assert scored == ["snip"]


def test_the_largest_sparsity_of_a_method_is_everyones_and_some_cannot_follow(
    network: nn.Module, batches: Batches
) -> None:
    found = compare(network, INPUTS, batches, losses.get("ce"), max_sparsity_of="layer-wise")
    rows = {row.name: row for row in found.rows}
    assert found.sparsity == rows["layer-wise"].maximum
    assert found.sparsity_of == "layer-wise"
    assert rows["layer-wise"].status == "ok"
    fallen = [row for row in found.rows if row.status == "infeasible"]
    assert fallen
    for row in fallen:
        assert row.costs == {}
        assert row.maximum is not None
        assert row.maximum < found.sparsity
        assert "largest feasible" in row.reason


def test_resources_fall_where_they_are_weighed(batches: Batches, network: nn.Module) -> None:
    rows = rows_of(network, batches, sparsity=0.3, strength=0.0)
    assert rows["RANP-f"].costs == rows["RANP-m"].costs == rows["weighted"].costs


def test_peers_are_rows_and_a_peer_that_fails_says_why(
    network: nn.Module, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("torch_pruning")
    before = [value.clone() for value in network.state_dict().values()]
    rows = rows_of(network, batches, sparsity=0.3, peers=True)
    assert list(rows)[-len(PEERS) :] == list(PEERS)
    for name in PEERS:
        assert rows[name].status == "ok", rows[name].reason
        assert rows[name].costs["standard"]["params"] < rows["full"].costs["standard"]["params"]
    assert all(map(torch.equal, before, network.state_dict().values()))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such\nlayer")

    monkeypatch.setattr(library.pruner, "MetaPruner", refuse)
    rows = rows_of(network, batches, sparsity=0.3, peers=True)
    assert {(rows[name].status, rows[name].reason) for name in PEERS} == {("failed", "RuntimeError: no such layer")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either sparsity= or max_sparsity_of="),
        ({"sparsity": 0.1, "max_sparsity_of": "snip"}, "either sparsity= or max_sparsity_of="),
        ({"max_sparsity_of": "ranp"}, "did you mean 'ranp-"),
        ({"sparsity": 1.5}, "sparsity=1.5: expected a share"),
        ({"sparsity": 0.1, "coupling": "min"}, "coupling='min'"),
    ],
)
def test_mistakes_come_before_any_work(options: dict[str, Any], words: str, network: nn.Module) -> None:
    with pytest.raises(UsageError, match=words):
        compare(network, INPUTS, [], losses.get("ce"), **options)


def test_batches_that_can_be_read_only_once_are_refused(network: nn.Module, batches: Batches) -> None:
    with pytest.raises(UsageError, match="can be read only once"):
        compare(network, INPUTS, iter(batches), losses.get("ce"), sparsity=0.1)


def test_dicts_of_batches_and_a_bar_as_for_prune(network: nn.Module, batches: Batches) -> None:
    read: list[int] = []

    def bar(items: Iterable[Any]) -> Iterable[Any]:
        read.append(0)
        for item in items:
            read[-1] += 1
            yield item

    dicts = [{"scan": image, "mask": label} for image, label in batches]
    of_dicts = ranp.compare(
        network, None, dicts, losses.get("ce"), sparsity=0.3, keys=("scan", "mask"), progress=bar
    ).to_dict()
    of_pairs = compare(network, INPUTS, batches, losses.get("ce"), sparsity=0.3).to_dict()
    assert of_dicts["rows"] == of_pairs["rows"]
    assert read == [2, 2]  # once by the method, once by SNIP


def test_keys_that_a_batch_has_not_are_refused(network: nn.Module, batches: Batches) -> None:
    dicts = [{"scan": image, "mask": label} for image, label in batches]
    with pytest.raises(UsageError, match=r"a dict of scan and mask has no 'image': .*keys="):
        ranp.compare(network, INPUTS, dicts, losses.get("ce"), sparsity=0.3)
