import pytest
import torch
from torch import Tensor, nn

from ranp.errors import UsageError
from ranp.models.outputs import output_shape

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


class Heads(nn.Module):
    """A scalar loss of its own, then two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        scores = self.layer(image)
        return scores.mean(), [scores, scores[:, :, ::2, ::2]]


class Reading(nn.Module):
    """Reads a value while it runs, which meta tensors don't have."""

    def forward(self, image: Tensor) -> Tensor:
        return image if float(image.sum()) == 0 else image[:, :, :1]


def test_the_first_output_that_is_no_scalar_counts() -> None:
    network = Heads().train()
    assert output_shape(network, torch.empty(2, 1, 8, 6)) == (3, 8, 6)
    assert network.training
    assert output_shape(Reading(), (torch.empty(1, 3, 4, 4),)) == (3, 4, 4)


def test_a_network_that_does_not_run_says_on_what() -> None:
    with pytest.raises(UsageError, match="does not run on an input of 1x2x8x8"):
        output_shape(Heads(), torch.empty(1, 2, 8, 8))
