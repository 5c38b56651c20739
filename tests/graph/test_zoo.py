"""Every network of the zoo, slimmed by random plans, equals its masked self and trains."""

import pytest
import torch
from graph_zoo import every
from graph_zoo.checking import check, over_frozen, randomise

from ranp.graph.build import trace
from ranp.modules import unwrapped

CASES = every()


def test_the_zoo_is_large_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.filterwarnings("ignore")  # the networks' own warnings (old spectral norm, einops, MONAI) are not ours
@pytest.mark.parametrize("name", sorted(CASES))
def test_slim_equals_masked(name: str) -> None:
    case = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = case.build().eval()
        graph = trace(net, case.inputs())
        share, reasons = over_frozen(graph)
        assert share <= case.frozen, reasons
        net, inputs = randomise(unwrapped(net).double()), case.inputs(1, torch.float64)  # wrappers are traced inside
        for removed, seed in ((0.3, 1), (0.7, 2), (0.99, 3)):
            check(graph, net, inputs, removed, seed, compares=case.compares, trains=case.trains and removed == 0.7)
