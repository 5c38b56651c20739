"""What a network's flags switch on is coupled though it is off; what never ran is named."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ranp


class Decoder(nn.Module):
    """A head at every scale; only with deep supervision do the lower ones run."""

    def __init__(self, deep_supervision: bool) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.stages = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(8, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Any:
        seen = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            x = stage(x).relu()
            if self.deep_supervision:
                seen.append(head(x))
        return seen[::-1] if self.deep_supervision else self.heads[-1](x)


class DeepSupervision(nn.Module):
    def __init__(self, deep_supervision: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(1, 8, 3, padding=1), Decoder(deep_supervision)

    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.encoder(x).relu())

    def switch(self, on: bool) -> None:
        self.decoder.deep_supervision = on


class ByClass(nn.Module):
    """A flag that the class holds, beside one of which nothing hangs."""

    auxiliary = False

    def __init__(self) -> None:
        super().__init__()
        self.bias = True
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head, self.aux = nn.Conv2d(8, 2, 1), nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        y = self.head(self.b(x).relu())
        return (y, self.aux(x)) if self.auxiliary else y

    def switch(self, on: bool) -> None:
        self.auxiliary = on


class Residual(nn.Module):
    """A flag that ties two layers which are apart without it, in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = False
        self.a, self.b, self.c = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.gain = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        y = self.b(x).relu()
        return self.c(y + x * self.gain if self.skip else y)

    def switch(self, on: bool) -> None:
        self.skip = on


class Together(nn.Module):
    """A head that needs two flags."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.two = False
        self.a, self.head, self.aux = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        return (self.head(x), self.aux(x)) if self.one and self.two else self.head(x)

    def switch(self, on: bool) -> None:
        self.one = self.two = on


class Config:
    def __init__(self) -> None:
        self.auxiliary, self._loaded = False, True


class Configured(nn.Module):
    """What is switched on stands in an object, and in a dict; one of them holds what can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.options = Config(), {"second": False, "name": "x"}
        self.a, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.aux, self.second = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        out = [self.head(x)]
        out += [self.aux(x)] if self.config.auxiliary else []
        return out + ([self.second(x)] if self.options["second"] else [])

    def switch(self, on: bool) -> None:
        self.config.auxiliary = self.options["second"] = on


CASES = [DeepSupervision, ByClass, Residual, Together, Configured]


@pytest.mark.parametrize("kind", CASES)
def test_slim_networks_run_with_the_flag_on_and_are_the_masked_ones(kind: Any) -> None:
    torch.manual_seed(0)
    model = kind()
    result = ranp.prune(model, torch.randn(1, 1, 8, 8), sparsity=0.3, method="l1")
    assert result.plan.units().kept < result.plan.units().total
    assert any("off the path as it is, and coupled with it" in note for note in result.report.notes)
    assert not any("never ran" in note for note in result.report.notes)
    slim = result.slim
    for on in (True, False):
        model.switch(on)
        slim.switch(on)
        checked = ranp.verify(model, slim, result.plan, torch.randn(1, 1, 8, 8))
        assert checked.max_rel_diff < 1e-10
    for each in (model, slim):
        each.train().switch(True)
    x = torch.randn(2, 1, 8, 8)
    assert [each.shape for each in flat(slim(x))] == [each.shape for each in flat(model(x))]


def flat(out: Any) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else list(out)


def test_flags_off_and_on_give_one_plan(tmp_path: Any) -> None:
    torch.manual_seed(0)
    result = ranp.prune(DeepSupervision(False), torch.randn(1, 1, 8, 8), sparsity=0.4, method="l1")
    ranp.save(tmp_path / "off", result.slim, result.plan, result.report)
    x = torch.randn(1, 1, 8, 8)
    on = ranp.load(tmp_path / "off", model=DeepSupervision(True)).eval()
    outputs = on(x)
    assert [tuple(each.shape) for each in outputs] == [(1, 3, 8, 8)] * 3
    assert torch.equal(outputs[0], result.slim.eval()(x))


class Skip(nn.Module):
    """A skip connection without parameters, which is off; its flag stands at the top."""

    def __init__(self, skip: bool = False) -> None:
        super().__init__()
        self.skip, self.features = skip, False
        self.a, self.b, self.c = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((1, 8), (8, 8), (8, 2)))

    def forward(self, x: Tensor) -> Any:
        x = self.a(x).relu()
        y = self.b(x).relu()
        out = self.c(x + y if self.skip else y)
        return (out, x) if self.features else out


class Fixed(Skip):
    """What the flag switches on writes a width in the code."""

    def forward(self, x: Tensor) -> Any:
        return self.c(self.a(x).view(-1, 8, 8, 8)) if self.skip else super().forward(x)


class Step(nn.Module):
    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else torch.relu(self.conv(x))


def steps(residual: bool) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), Step(residual), Step(residual), nn.Conv2d(8, 2, 1))


def test_what_a_flag_ties_without_running_parameters_is_coupled(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model, x = Skip(), torch.randn(1, 1, 8, 8)
    result = ranp.prune(model, x, sparsity=0.4, method="l1")
    assert "coupled, so that slim networks run with Skip.skip=True too: a, b" in result.report.notes
    assert not any("features" in note for note in result.report.notes)  # further outputs would only freeze channels
    assert result.plan.choice.achieved > 0.3
    ranp.save(tmp_path / "off", result.slim, result.plan, result.report)
    model.skip = True
    on = ranp.load(tmp_path / "off", model=Skip(True)).eval()
    assert ranp.verify(model, on, result.plan, x).max_rel_diff < 1e-12
    assert ranp.verify(Skip(True), on, ranp.Plan.read(tmp_path / "off" / "plan.json"), x).passed
    model.features = on.features = True
    proof = ranp.verify(model, on, ranp.Plan.read(tmp_path / "off" / "plan.json"), x)
    assert (proof.passed, proof.compared) == (True, 2)
    assert on(x)[1].shape[1] < 8


def test_layers_that_a_flag_leaves_out_are_not_said_to_be_tied_by_it() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixes, self.inner, self.mix = True, nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.inner(x))
            return x + (self.mix(y) if self.mixes else y)

    net = nn.Sequential(nn.Conv2d(1, 8, 3), Mixed(), Mixed(), nn.Conv2d(8, 2, 1))
    (note,) = ranp.trace(net, torch.zeros(1, 1, 8, 8)).notes
    assert note.startswith("Mixed.mixes=False ties further layers (0, 1.inner, 2.inner): slim networks may not")


def test_what_every_block_has_is_no_switch_and_is_said(tmp_path: Any) -> None:
    torch.manual_seed(0)
    x = torch.zeros(1, 1, 8, 8)
    result = ranp.prune(steps(False), x, sparsity=0.4, method="l1")
    said = "Step.residual=True ties further layers (0, 1.conv, 2.conv): slim networks may not run with it"
    assert any(note.startswith(said) for note in result.report.notes)
    assert len({len(group.kept) for group in result.plan.groups[:3]}) > 1
    ranp.save(tmp_path / "off", result.slim, result.plan, result.report)
    with pytest.raises(ranp.UsageError, match=r"otherwise: give those of the run, or prune it as it is$"):
        ranp.load(tmp_path / "off", model=steps(True))
    other = ranp.prune(steps(True), x, sparsity=0.4, method="l1")
    assert not any("residual" in note for note in other.report.notes)  # off, it only unties


def test_a_plan_that_removes_what_a_flag_needs_is_refused(tmp_path: Any) -> None:
    torch.manual_seed(0)
    result = ranp.prune(Fixed(), torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
    assert result.plan.choice.achieved > 0.3
    ranp.save(tmp_path / "off", result.slim, result.plan, result.report)
    with pytest.raises(ranp.UsageError, match=r"does not fit the model"):
        ranp.load(tmp_path / "off", model=Fixed(True))


def test_flags_that_act_outside_of_the_network_are_never_switched() -> None:
    class Acting(Skip):
        def __init__(self) -> None:
            super().__init__()
            self.debug = self.save_images = self.verbose = self.plot_maps = False
            self.never = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Any:
            if self.debug or self.save_images or self.verbose or self.plot_maps:
                acted.append(1)
            return super().forward(x)

    acted: list[int] = []
    ranp.trace(Acting(), torch.zeros(1, 1, 8, 8))
    assert acted == []


def test_heads_that_are_made_by_a_flag_name_the_command_that_makes_the_run_fit(tmp_path: Any) -> None:
    class Heads(nn.Module):
        def __init__(self, auxiliary: bool) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1)
            self.aux = nn.Conv2d(8, 2, 1) if auxiliary else None

        def forward(self, x: Tensor) -> Any:
            x = self.a(x).relu()
            y = self.head(self.b(x).relu())
            return y if self.aux is None else (y, self.aux(x))

    torch.manual_seed(0)
    result = ranp.prune(Heads(False), torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
    ranp.save(tmp_path / "off", result.slim, result.plan, result.report)
    with pytest.raises(ranp.UsageError, match=r"'aux' is only in the model; `ranp transfer RUN --keep-weights"):
        ranp.load(tmp_path / "off", model=Heads(True))
    moved = ranp.transfer(result.plan, Heads(True), torch.zeros(1, 1, 8, 8), weights=result.slim)
    assert moved.slim.aux.in_channels == moved.slim.a.out_channels < 8
    assert "a.weight" in moved.inherited


def test_flags_that_run_no_idle_parameter_are_left() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.return_features = False
            self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Any:
            x = self.a(x)
            return (self.b(x), x) if self.return_features else self.b(x)

    model = Features()
    graph = ranp.trace(model, torch.zeros(1, 1, 8, 8))
    assert graph.reason_of(graph.groups[0]) is None
    assert graph.notes == ()
    assert model.return_features is False


@pytest.mark.parametrize("training", [True, False])
def test_every_parameter_that_never_ran_is_named(training: bool) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 1)
            self.unused = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)) for _ in range(7))
            self.scale = nn.Parameter(torch.ones(8))
            self.lstm = nn.LSTM(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(self.a(x))
            return x + self.lstm(x.flatten(2).mean(2)[None, :, :1].expand(1, -1, 4))[0].mean()

    graph = ranp.trace(Idle().train(training), torch.zeros(2, 1, 8, 8))
    assert graph.notes == ("never ran, keeps its full size: unused, scale",)


def test_what_ran_on_no_path_is_named_parameter_by_parameter() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(self.a(x), self.b.weight)

    assert ranp.trace(Half(), torch.zeros(1, 1, 8, 8)).notes == ("never ran, keeps its full size: b.bias",)


def test_heads_that_are_tied_to_the_output_name_the_command_too(tmp_path: Any) -> None:
    class Stacked(nn.Module):
        def __init__(self, auxiliary: bool) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)
            self.heads = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(auxiliary))

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            return sum((head(x) for head in self.heads), self.head(self.b(x).relu()))

    torch.manual_seed(0)
    result = ranp.prune(Stacked(False), torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
    ranp.save(tmp_path / "off", result.slim, result.plan, result.report)
    said = r"group 'head' is made by head.weight in the plan, by head.weight and heads.0.weight in the model; `ranp tra"
    with pytest.raises(ranp.UsageError, match=said):
        ranp.load(tmp_path / "off", model=Stacked(True))
    moved = ranp.transfer(result.plan, Stacked(True), torch.zeros(1, 1, 8, 8), weights=result.slim)
    assert torch.equal(moved.slim.b.weight, result.slim.b.weight)


def test_what_an_argument_of_the_forward_switches_on_is_coupled() -> None:
    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head, self.aux = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor, scale: float = 1.0, *, auxiliary: bool = False, **more: Any) -> Any:
            x = self.a(x).relu() * scale
            return (self.head(x), self.aux(x)) if auxiliary else self.head(x)

    torch.manual_seed(0)
    model, x = Asked(), torch.randn(1, 1, 8, 8)
    for inputs in (x, (x, 2.0), {"x": x}, {"x": x, "auxiliary": False}):
        result = ranp.prune(model, inputs, sparsity=0.4, method="l1")
        notes = result.report.notes
        if isinstance(inputs, dict) and "auxiliary" in inputs:
            assert "never ran, keeps its full size: aux" in notes  # said by the inputs to stay off
            continue
        assert "off the path as it is, and coupled with it: aux, by forward(auxiliary=True)" in notes
        assert [each.shape[1] for each in result.slim(x, auxiliary=True)] == [2, 4]
        assert ranp.verify(model, result.slim, result.plan, {"x": x, "auxiliary": True}).compared == 2


def test_what_can_not_be_copied_is_never_switched() -> None:
    class Locked(Config):
        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            raise TypeError("no")

        def __setattr__(self, name: str, value: Any) -> None:
            assert not self.__dict__.get("_loaded")
            super().__setattr__(name, value)

    model = Configured()
    model.config = Locked()
    graph = ranp.trace(model, torch.zeros(1, 1, 8, 8))
    assert any(note.startswith("never ran, keeps its full size: aux") for note in graph.notes)
    assert model.config.auxiliary is False


class Counted(nn.Module):
    """Counts how often it runs; of its flags none is read unless the first is on, or it sets one itself."""

    runs = 0

    def __init__(self, **flags: bool) -> None:
        super().__init__()
        self.first = self.sets = False
        for name, value in flags.items():
            setattr(self, name, value)
        self.a, self.head, self.aux = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        type(self).runs += 1
        x = self.a(x).relu()
        if self.sets:
            self.sets = True
        return (self.head(x), self.aux(x)) if self.first and self.training else self.head(x)


def runs_of(model: nn.Module) -> tuple[int, tuple[str, ...]]:
    Counted.runs = 0
    notes = ranp.trace(model, torch.zeros(1, 1, 8, 8)).notes
    return Counted.runs, notes


def test_flags_that_the_forward_never_reads_are_not_tried() -> None:
    few, notes = runs_of(Counted())
    many, same = runs_of(Counted(alpha=True, beta=False, gamma=True, delta=False))
    assert many == few
    assert notes == same == ("off the path as it is, and coupled with it: aux, by Counted.first=True",)


@pytest.mark.parametrize("asked", ["", "a", "drop"])
def test_a_network_that_asks_any_module_for_its_mode_is_run_in_training_mode(asked: str) -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.drop, self.head = nn.Conv2d(1, 8, 3), nn.Dropout(0.0), nn.Conv2d(8, 2, 1)
            self.aux = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Any:
            x = self.drop(self.a(x).relu())
            return (self.head(x), self.aux(x)) if self.get_submodule(asked).training else self.head(x)

    graph = ranp.trace(Asks(), torch.zeros(1, 1, 8, 8))
    assert graph.notes == ()
    assert "aux.weight" in graph.parameters


def test_a_network_that_asks_for_no_mode_is_not_run_again() -> None:
    class Plain(Counted):
        def forward(self, x: Tensor) -> Any:
            type(self).runs += 1
            return self.head(self.drop(self.a(x).relu())), self.aux(self.a(x))

    few, many = Plain(), Plain()
    few.drop, many.drop = nn.Dropout(0.0), nn.Dropout(0.5)
    counts = []
    for model in (few, many):
        Plain.runs = 0
        graph = ranp.trace(model, torch.zeros(1, 1, 8, 8))
        counts.append(Plain.runs)
        assert [len(run.records) > 0 for run in graph.runs.values()] == [True, True]
    assert counts[0] < counts[1]


def test_flags_that_the_forward_sets_are_tried() -> None:
    assert runs_of(Counted(sets=True))[1] == ("off the path as it is, and coupled with it: aux, by Counted.first=True",)


def test_where_a_watched_run_goes_another_way_every_flag_counts_as_read() -> None:
    class Otherwise(Counted):
        def forward(self, x: Tensor) -> Any:
            type(self).runs += 1
            x = self.a(x)
            if type(self).runs == 2:  # and reads none
                return self.head(x) * 2.0
            return (self.head(x), self.aux(x)) if self.first else self.head(x)

    notes = ranp.trace(Otherwise(), torch.zeros(1, 1, 8, 8)).notes
    assert "off the path as it is, and coupled with it: aux, by Otherwise.first=True" in notes
