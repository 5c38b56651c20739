"""What a result, a plan and a graph look like to a person."""

import pytest
import torch
from torch import nn

import ranp


@pytest.fixture(scope="module")
def result() -> ranp.Result:
    layers = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(8)]
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *layers, nn.Conv2d(8, 2, 1))
    return ranp.prune(net, torch.zeros(1, 1, 8, 8), method="l1", sparsity=0.4)


@pytest.mark.parametrize("name", ["result", "plan", "graph"])
def test_a_few_lines(name: str, result: ranp.Result) -> None:
    shown = {"result": result, "plan": result.plan, "graph": result.graph}[name]
    lines = repr(shown).splitlines()
    assert 2 <= len(lines) <= 8
    assert max(map(len, lines)) <= 120
    assert str(shown) == repr(shown)


def test_they_say_what_matters(result: ranp.Result) -> None:
    report = result.report
    assert f"{report.full.params:,}" in repr(result)
    assert f"{report.slim.params:,}" in repr(result)
    assert f"{report.units.kept} of {report.units.total} units kept" in repr(result.plan)
    assert "10 layers" in repr(result.graph)
    assert "frozen: 2 (network output)" in repr(result.graph)


def test_the_table_of_a_report(result: ranp.Result) -> None:
    lines = result.report.table().splitlines()
    assert lines[0].split() == ["full", "slim", "saved"]
    assert [line.split()[0] for line in lines[1:4]] == ["parameters", "FLOPs", "activations"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[-1].startswith("verified: slim = masked to")


@pytest.mark.parametrize("name", ["result", "report", "plan", "graph"])
def test_notebooks_get_a_table(name: str, result: ranp.Result) -> None:
    parts = {"result": result, "report": result.report, "plan": result.plan, "graph": result.graph}
    text = parts[name]._repr_html_()
    rows = {"plan": len(result.plan.groups), "graph": len(result.graph.groups)}.get(name, 3)
    assert text.startswith("<table>")
    assert text.count("<tr>") == rows + 1
