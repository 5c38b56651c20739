"""Peak training memory against sums made by hand."""

import pytest
import torch
from torch import Tensor, nn

from ranp import cost
from ranp.errors import UnsupportedError

WEIGHT = 256 * 256 * 4
BATCH = 128 * 256 * 4


def network(depth: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(depth)))


def test_parameters_gradients_and_states_are_their_sizes() -> None:
    found = cost.peak_training_memory(network(3), torch.zeros(128, 256))
    assert (found.parameters, found.gradients) == (3 * WEIGHT, 3 * WEIGHT)
    assert found.optimizer == 6 * WEIGHT + 3 * 512  # two moments, and a step count in a block of its own
    assert found.peak == found.parameters + found.gradients + found.optimizer + found.activations


def test_an_optimizer_without_state_takes_none() -> None:
    found = cost.peak_training_memory(network(2), torch.zeros(128, 256), optimizer=torch.optim.SGD)
    assert found.optimizer == 0


def test_activations_grow_with_what_the_backward_needs() -> None:
    """A chain of sigmoids keeps every output: each further one adds its output."""

    def activations(depth: int) -> int:
        chain = nn.Sequential(network(1), *(nn.Sigmoid() for _ in range(depth)))
        return cost.peak_training_memory(chain, torch.zeros(128, 256), optimizer=torch.optim.SGD).peak

    assert activations(9) - activations(8) == BATCH


def test_what_the_loss_stores_counts() -> None:
    def square(outputs: Tensor) -> Tensor:
        return outputs.repeat(16, 1).exp().mean()

    plain = cost.peak_training_memory(network(1), torch.zeros(128, 256))
    assert cost.peak_training_memory(network(1), torch.zeros(128, 256), square).peak > plain.peak


def test_the_model_is_untouched_and_needs_no_memory() -> None:
    model = nn.Linear(8, 8).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cost.peak_training_memory(model, torch.zeros(1, 8))
    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    huge = cost.peak_training_memory(nn.Conv3d(1, 64, 3), torch.empty(8, 1, 512, 512, 512, device="meta"))
    assert huge.peak > 200 * 2**30


class Reading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum().item() > 0 else x


def test_a_network_that_reads_values_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="training step can't be replayed"):
        cost.peak_training_memory(Reading(), torch.zeros(1, 4))
