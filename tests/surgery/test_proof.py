"""verify() says something in every case: differences count by how far outputs vary, and what does not vary is named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp import models
from ranp.commands._tables import print_verification


class Flipped(nn.Sequential):
    """A slim network with a mistake: the channels of the first layer arrive in another order."""

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        first, *rest = self
        x = first(x).flip(1)
        for layer in rest:
            x = layer(x)
        return x


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)
    ).eval()


def dead() -> nn.Sequential:
    net = plain()
    nn.init.constant_(net[2].bias, -1e4)
    return net


def zero_head() -> nn.Sequential:
    net = plain()
    nn.init.zeros_(net[5].weight)
    return net


def zero_gamma() -> nn.Sequential:
    net = plain()
    nn.init.zeros_(net[3].weight)
    return net


def large_constant() -> nn.Sequential:
    net = plain()
    nn.init.constant_(net[5].bias, 1e9)
    return net


def saturated() -> nn.Sequential:
    net = nn.Sequential(*plain(), nn.Sigmoid())
    nn.init.constant_(net[5].bias, 1e3)
    return net


EXAMPLE = torch.zeros(1, 1, 12, 12)


@pytest.mark.parametrize("make", [dead, zero_head, zero_gamma, large_constant])
def test_an_output_that_does_not_move_is_compared_under_random_weights(make: Callable[[], nn.Sequential]) -> None:
    net = make()
    result = ranp.prune(net, EXAMPLE, method="l1", sparsity=0.4)
    proof = result.report.verify
    assert proof.passed
    assert proof.compared == proof.outputs == 1
    assert "under random ones" in proof.uncompared[0]
    wrong = ranp.verify(net, Flipped(*result.slim), result.plan, EXAMPLE)
    assert not wrong.passed
    assert wrong.max_rel_diff > 1e-3
    with pytest.raises(ranp.CheckFailed, match="how far its outputs vary"):
        wrong.require()


def test_a_difference_counts_by_how_far_the_output_varies() -> None:
    net = plain()
    nn.init.constant_(net[5].bias, 1e4)
    result = ranp.prune(net, EXAMPLE, method="l1", sparsity=0.4)
    assert result.report.verify.passed
    assert result.report.verify.uncompared == ()
    off = nn.Sequential(*result.slim, type("Off", (nn.Module,), {"forward": lambda self, x: x + 1e-6})())
    wrong = ranp.verify(net, off, result.plan, EXAMPLE)
    assert wrong.max_abs_diff == pytest.approx(1e-6, rel=1e-3)
    assert wrong.max_rel_diff > 1e-7  # of the largest output it would be 1e-10, which passes
    assert not wrong.passed


class Constant(nn.Module):
    """Gives its input's mask back, and something that no input moves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain()
        self.register_buffer("scale", torch.full((3,), 2.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run it."""
        return self.layers(x), self.scale


def test_outputs_that_nothing_moves_are_named() -> None:
    proof = ranp.prune(Constant(), EXAMPLE, method="l1", sparsity=0.4).report.verify
    assert proof.passed
    assert (proof.outputs, proof.compared) == (2, 1)
    assert proof.uncompared == ("output 2 of 2: it does not change with the input",)


class Nothing(nn.Module):
    """An output that depends on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain()

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.layers(x).softmax(1).sum(1).ge(0).double()


def test_a_proof_of_nothing_does_not_pass_silently(capsys: pytest.CaptureFixture[str]) -> None:
    proof = ranp.prune(Nothing(), EXAMPLE, method="l1", sparsity=0.4).report.verify
    assert not proof.passed
    assert proof.compared == 0
    assert proof.words.startswith("NOT PROVED")
    assert proof.to_dict()["passed"] is False
    from rich.console import Console

    print_verification(Console(width=200), proof)
    assert "NOT PROVED: no output changes with the input" in capsys.readouterr().out


class Indexed(nn.Module):
    """Reads whole numbers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = nn.Embedding(9, 6), nn.Conv1d(6, 8, 3), nn.Conv1d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.b(self.a(self.table(x).mT).relu())


def test_where_no_input_can_be_drawn_the_weights_are() -> None:
    proof = ranp.prune(Indexed(), torch.arange(9)[None], method="l1", sparsity=0.4).report.verify
    assert proof.passed
    assert proof.compared == 1


@pytest.mark.parametrize("make", [plain, saturated])
def test_one_input_is_too_few_to_see_an_output_move(make: Callable[[], nn.Sequential]) -> None:
    net = make()
    result = ranp.prune(net, EXAMPLE, method="l1", sparsity=0.4)
    assert ranp.verify(net, result.slim, result.plan, EXAMPLE, inputs=1).inputs == 2
    assert ranp.verify(net, result.slim, result.plan, EXAMPLE, inputs=3).inputs == 3


def test_what_varies_does_not_fade_in_a_deep_network_that_was_not_trained() -> None:
    """Fifty layers of freshly drawn weights: the output hardly moves, so it is compared under random ones."""
    network = models.build("mobilenetv2-3d", classes=5)
    example = torch.zeros(1, 3, 4, 32, 32)
    proof = ranp.prune(network, example, method="l1", sparsity=0.2).report.verify
    assert proof.compared == proof.outputs == 1
    assert proof.passed
