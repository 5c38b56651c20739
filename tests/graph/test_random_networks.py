"""Random networks under random plans: slim equals masked. RANP_EXAMPLES=5000 tries that many."""

import os

import numpy as np
import torch
from graph_zoo.checking import BOUND, compared, randomise
from graph_zoo.generator import RandomNetwork
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ranp.graph.build import trace
from ranp.graph.constraints import random_plan

EXAMPLES = int(os.environ.get("RANP_EXAMPLES", "200"))


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 200, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_slim_equals_masked(data: st.DataObject) -> None:
    with torch.random.fork_rng(devices=[]):
        net = RandomNetwork(data.draw).eval()
    inputs = torch.zeros(2, 2, *(net.size,) * net.dims)
    note(", ".join([*(step.name for step in net.steps), net.flat]))
    graph = trace(net, inputs)
    net = randomise(net.double())
    values = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    removed, seed = data.draw(st.sampled_from([0.3, 0.5, 0.7, 1.0])), data.draw(st.integers(0, 1000))
    kept = random_plan(graph, removed, np.random.default_rng(seed))
    slim, worst, uncompared = compared(graph, net, (values,), kept)
    assert uncompared == []
    assert worst < BOUND
    slim.train()
    slim(values).square().mean().backward()
    assert all(p.grad is None or p.grad.shape == p.shape for p in slim.parameters())
