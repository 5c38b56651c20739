"""Every network of the zoo, slimmed by random plans, equals its masked self and trains."""

import numpy as np
import pytest
import torch
from graph_zoo import every
from graph_zoo.checking import check_plans, over_frozen, randomise

from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.graph.resize import resized
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
        with torch.device("meta" if case.wide else "cpu"):
            net = case.build().eval()
        graph = trace(net, case.inputs())
        share, reasons = over_frozen(graph)
        assert share <= case.frozen, reasons
        net = unwrapped(net)  # wrappers are traced inside
        if case.wide:
            net = resized(graph, net, random_plan(graph, 0.75, np.random.default_rng(0)))
            net = net.to_empty(device="cpu")  # all floating-point values are drawn below, of the others none is read
            graph = trace(net, case.inputs())
        net, inputs = randomise(net.double()), case.inputs(1, torch.float64)
        plans = [(0.3, 1), (0.99, 3), (0.7, 2)]
        check_plans(graph, net, inputs, plans, compares=case.compares, trains=case.trains)
