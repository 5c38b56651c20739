"""What is asked for goes: silent layers, equal scores, rows that keep equally many; a shortfall is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.errors import InfeasibleError
from ranp.graph.graph import Graph
from ranp.scores import Scores


class Residual(nn.Module):
    """Two residual branches; what their last layers start from is chosen."""

    def __init__(self, start: str, width: int = 12) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 3, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
            )
            for _ in range(2)
        )  # fmt: skip
        for branch in self.branches:
            if start == "norm":
                nn.init.zeros_(branch[4].weight)
            if start == "conv":
                nn.init.zeros_(branch[3].weight)
                nn.init.zeros_(branch[3].bias)
        if start == "head":
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = (x + branch(x)).relu()
        return self.head(x)


def scored(model: nn.Module, **options: str) -> tuple[ranp.Graph, Scores]:
    graph = ranp.trace(model, torch.zeros(1, 1, 8, 8))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 1, 8, 8, generator=generator)
    target = torch.randint(3, (2, 8, 8), generator=generator)
    return graph, ranp.importance(model, graph, [(image, target)], nn.functional.cross_entropy, **options)


@pytest.mark.parametrize("dead_norms", ["one", "keep"])
@pytest.mark.parametrize("start", ["plain", "norm", "conv", "head"])
@pytest.mark.filterwarnings("ignore:mpmg. every score is zero")  # behind a head of zeros nothing has a gradient
def test_dead_starts_lose_what_is_asked(start: str, dead_norms: str) -> None:
    torch.manual_seed(0)
    graph, scores = scored(Residual(start), dead_norms=dead_norms)
    for sparsity in (0.2, 0.4):
        plan = ranp.select(graph, scores, sparsity=sparsity)
        assert 0.6 * sparsity < plan.choice.achieved <= sparsity + 0.03
        assert all(group.kept for group in plan.groups)


def test_dead_norms_are_named_and_scored_at_one_or_as_they_are() -> None:
    torch.manual_seed(0)
    model = Residual("norm")
    at_one, as_it_is = (scored(model, dead_norms=way)[1] for way in ("one", "keep"))
    assert all(values.any() for values in at_one.neurons.values())
    assert not as_it_is.neurons["branches.0.0.weight"].any()
    assert as_it_is.neurons["stem.weight"].any()
    assert "branches.0.4, branches.1.4" in at_one.notes[0]
    assert "dead_norms='keep'" in at_one.notes[0]
    assert "4 of 6 layers score zero throughout (branches.0.0, branches.0.3" in as_it_is.notes[1]
    assert not model.branches[0][4].weight.any()  # type: ignore[index]
    revived = Residual("norm")
    revived.load_state_dict(model.state_dict())
    for branch in revived.branches:
        nn.init.ones_(branch[4].weight)  # type: ignore[index]
    for name, values in scored(revived)[1].neurons.items():
        assert np.array_equal(values, at_one.neurons[name])


def test_networks_without_dead_norms_have_no_notes() -> None:
    torch.manual_seed(0)
    assert scored(Residual("plain"))[1].notes == ()


@pytest.mark.parametrize("options", [{}, {"weighting": "none"}, {"rule": "layerwise"}, {"coupling": "sum"}])
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_scores_lose_what_is_asked_by_a_seeded_draw(options: dict, seed: int) -> None:
    model = nn.Sequential(nn.Conv2d(1, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 3), nn.ReLU(), nn.Conv2d(40, 2, 1))
    graph = ranp.trace(model, torch.zeros(1, 1, 8, 8))
    scores = Scores("mpmg", "sum", 1, {layer.name: np.zeros(len(layer.units)) for layer in graph.layers})
    plan = ranp.select(graph, scores, sparsity=0.4, seed=seed, **options)
    assert plan.choice.achieved == pytest.approx(0.4, abs=0.03)
    assert plan.to_json() == ranp.select(graph, scores, sparsity=0.4, seed=seed, **options).to_json()


class InTheCode(nn.Module):
    """A size that is written in the forward: nothing of the layer before it can go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x).view(-1, 16, 8, 8))


class Shuffle(nn.Module):
    """Halves, one transformed, joined and shuffled, so often that the joined channels hang together as one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1)) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for branch in self.branches:
            left, right = x.chunk(2, dim=1)
            x = torch.cat((left, branch(right)), dim=1)
            x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.last(x)


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_branches_between_shuffles_stay_free(count: int) -> None:
    torch.manual_seed(0)
    result = ranp.prune(Shuffle(count), torch.randn(1, 3, 8, 8), sparsity=0.3, method="l1", allow_less=True)
    assert all(branch[0].out_channels < 6 for branch in result.slim.branches)
    for group in result.graph.groups:  # what keeps its width says why
        kept = len(next(each for each in result.plan.groups if each.name == group.name).kept)
        assert kept < len(group.units) or result.graph.reason_of(group) or len(group.units) == 1 or count < 4


@pytest.mark.parametrize("rule", ["global", "random", "layerwise"])
def test_where_nothing_can_go_the_maximum_is_zero_and_says_why(rule: str) -> None:
    model = InTheCode()
    graph = ranp.trace(model, torch.randn(4, 3, 8, 8))
    scores = ranp.importance(model, graph, method="l1")
    assert ranp.largest_sparsity(graph, scores, rule=rule) == 0.0
    with pytest.raises(
        InfeasibleError, match=r"sparsity=0\.4: no more than 0\.0 % .* must stay \(.*fixed size"
    ) as error:
        ranp.select(graph, scores, sparsity=0.4, rule=rule)
    assert error.value.closest == 0.0
    assert "\n" not in str(error.value)
    less = ranp.select(graph, scores, sparsity=0.4, rule=rule, allow_less=True)
    assert less.units().kept == less.units().total
    assert ranp.select(graph, scores, max_sparsity=True, rule=rule).choice.achieved == 0.0


class Stopped(nn.Module):
    """Most channels pass a size that is written as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(1, 60, 1), nn.Conv2d(60, 12, 1)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.narrow(self.wide(x).view(-1, 60, 64).unflatten(2, (8, 8)).relu()).relu())


def test_a_shortfall_names_the_closest_that_can_be_had_and_allow_less_takes_it() -> None:
    torch.manual_seed(0)
    model = Stopped()
    graph = ranp.trace(model, torch.zeros(1, 1, 8, 8))
    assert graph.reason_of(graph.groups[0]) is not None
    scores = ranp.importance(model, graph, method="l1")
    maximum = ranp.largest_sparsity(graph, scores)
    assert 0 < maximum <= 11 / 74  # all but one of the narrow layer, not the ranking's 0.9
    assert ranp.select(graph, scores, sparsity=maximum).choice.maximum == maximum
    with pytest.raises(InfeasibleError, match=r"no more than 14\.9 % .* largest feasible value is 0\.0") as error:
        ranp.select(graph, scores, sparsity=0.6)
    assert error.value.closest == maximum
    with pytest.raises(InfeasibleError, match="less than half of what the ranking drops") as error:
        ranp.select(graph, scores, sparsity=11 / 74)
    assert ranp.select(graph, scores, sparsity=error.value.closest).choice.achieved >= 0
    result = ranp.prune(model, torch.zeros(1, 1, 8, 8), sparsity=0.6, method="l1", allow_less=True)
    assert 0 < result.report.sparsity.achieved <= 11 / 74
    assert any("less than half of the 60.0 %" in note for note in result.report.notes)


class Branches(nn.Module):
    """Residual branches, whose last layers may be zero."""

    def __init__(self, count: int, width: int, zero: bool) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, width, 3, padding=1), nn.Conv2d(width, 3, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(count)
        )
        for branch in self.branches if zero else ():
            nn.init.zeros_(branch[2].weight)
            nn.init.zeros_(branch[2].bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.head(x)


class Written(nn.Module):
    """Shuffled between grouped convolutions, the number of parts written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 32, 1), nn.Conv2d(32, 32, 1, groups=8), nn.Conv2d(32, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        b, c, h, w = x.shape
        return self.c(self.b(x.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w)))


@pytest.mark.parametrize("rule", ["global", "layerwise", "random", "snip"])
@pytest.mark.parametrize(
    "make",
    [Stopped, Written, lambda: Branches(4, 16, True), lambda: Branches(8, 8, False), lambda: Branches(2, 6, True)],
)
def test_the_maximum_can_be_asked_for(make: Callable[[], nn.Module], rule: str) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model = make()
        x = torch.randn(2, 1 if isinstance(model, Stopped) else 2, 8, 8)
        graph = ranp.trace(model, x)
        batches = [(x, torch.randint(3 if not isinstance(model, Stopped) else 2, (2, 8, 8)))]
        method = "snip" if rule == "snip" else "mpmg"
        scores = ranp.importance(model, graph, batches, nn.functional.cross_entropy, method=method)
        maximum = ranp.largest_sparsity(graph, scores, rule=rule)
        assert maximum > 0
        assert ranp.select(graph, scores, rule=rule, sparsity=maximum).choice.maximum == maximum
        for asked in (0.5, 0.99):
            closest = nearest_to(asked, graph, scores, rule)
            assert ranp.select(graph, scores, rule=rule, sparsity=closest).choice.sparsity == closest <= asked


def nearest_to(asked: float, graph: Graph, scores: Scores, rule: str) -> float:
    """Return a sparsity, or what an error names as the closest."""
    try:
        ranp.select(graph, scores, rule=rule, sparsity=asked)
    except InfeasibleError as error:
        return -1.0 if error.closest is None else error.closest
    return asked


def test_what_the_user_fixed_is_no_shortfall() -> None:
    torch.manual_seed(0)
    graph = ranp.trace(Residual("plain"), torch.zeros(1, 1, 8, 8), freeze=["branches.0.0", "branches.1.0"])
    scores = ranp.importance(Residual("plain"), graph, method="l1")
    plan = ranp.select(graph, scores, sparsity=0.3)
    assert 0 < plan.choice.achieved < 0.3


@pytest.mark.parametrize("kind", ["grouped", "norm"])
def test_rows_that_keep_equally_many_lose_about_what_is_asked(kind: str) -> None:
    torch.manual_seed(0)
    middle = nn.Conv2d(32, 32, 3, padding=1, groups=8) if kind == "grouped" else nn.GroupNorm(8, 32)
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), middle, nn.ReLU(), nn.Conv2d(32, 2, 1))
    result = ranp.prune(model, torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
    assert result.report.sparsity.achieved == pytest.approx(0.4, abs=0.2)
    assert result.slim[0].out_channels % 8 == 0


def test_snip_says_what_its_sparsity_is_a_share_of() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(2, 2, 8, 8), torch.randint(3, (2, 8, 8))
    result = ranp.prune(
        Branches(4, 16, False), x, batches=[(x, target)], loss=nn.functional.cross_entropy,
        method="snip", rule="snip", sparsity=0.3,
    )  # fmt: skip
    assert result.report.sparsity.achieved < 0.15
    assert any("SNIP's 30.0 % is a share of weight elements" in note for note in result.report.notes)
