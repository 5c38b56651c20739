"""Random networks pruned twice: one plan of the full network makes of it what both rounds left."""

import torch
from graph_zoo.generator import RandomNetwork
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import ranp
from ranp.errors import InfeasibleError, UnsupportedError
from ranp.modules import tensors_of
from ranp.pipeline import prune_again


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
@given(st.data())
def test_random_networks_are_pruned_twice_by_one_plan(data: st.DataObject) -> None:
    with torch.random.fork_rng(devices=[]):
        net = RandomNetwork(data.draw).eval()
    inputs = torch.zeros(2, 2, *(net.size,) * net.dims)
    try:
        one = ranp.prune(net, inputs, rule="random", sparsity=0.3, seed=1, allow_less=True)
        two = prune_again(net, one.plan, one.slim, inputs, rule="random", sparsity=0.3, seed=2, allow_less=True)
    except (InfeasibleError, UnsupportedError):
        assume(False)
    once, left = tensors_of(ranp.slim(net, two.plan)), tensors_of(two.slim)
    assert once.keys() == left.keys()
    assert all(torch.equal(once[name], left[name]) for name in once)
    assert two.plan.units().kept <= one.plan.units().kept
