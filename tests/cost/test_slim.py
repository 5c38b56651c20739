"""Costs of a plan equal those of the network that is really built from it, counted from scratch."""

from collections.abc import Callable

import monai.networks.nets as nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ranp import cost, models
from ranp.cost._checking import multiply_accumulates
from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.graph.resize import resized


class Mixed(nn.Module):
    """Grouped, depthwise and transposed convolutions, group norm, two shuffles, a concat, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 24)
        self.b, self.shuffle = nn.Conv2d(16, 24, 3, groups=4, padding=1), nn.ChannelShuffle(4)
        self.up, self.pixels = nn.ConvTranspose2d(24, 12, 3, groups=2, stride=2), nn.PixelShuffle(2)
        self.depthwise, self.pool = nn.Conv2d(3, 6, 3, groups=3), nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pixels(self.up(torch.relu(self.norm(self.shuffle(self.b(self.a(x)))))))
        x = torch.cat([self.depthwise(x), x[:, :, 1:-1, 1:-1]], dim=1)
        return self.head(self.pool(x).flatten(1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "unet3d": (lambda: models.build("unet3d", base_width=8, depth=3), [(2, 1, 8, 8, 8)]),
    "mixed": (Mixed, [(2, 3, 8, 8)]),
    "monai UNet": (lambda: nets.UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=2), [(1, 1, 8, 8, 8)]),
    "DenseNet": (
        lambda: nets.DenseNet(2, 3, 4, init_features=8, growth_rate=4, block_config=(2, 2)),
        [(1, 3, 64, 64)],
    ),
    "SegResNet": (lambda: nets.SegResNet(2, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)), [(1, 1, 16, 16)]),
    "UNETR": (
        lambda: nets.UNETR(1, 2, 16, feature_size=4, hidden_size=12, mlp_dim=16, num_heads=2, spatial_dims=2),
        [(1, 1, 16, 16)],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_of_a_plan_are_those_of_the_slim_network(name: str) -> None:
    build, shapes = NETWORKS[name]
    network, inputs = build().eval(), tuple(torch.zeros(shape) for shape in shapes)
    graph = trace(network, inputs)
    kept = random_plan(graph, 0.4, np.random.default_rng(1))
    assert not kept.all()
    slim = resized(graph, network, kept)
    again = trace(slim, inputs)
    for convention in cost.CONVENTIONS:
        expected = cost.compile(again, convention)(np.ones(again.count, dtype=bool))
        counted = cost.compile(graph, convention)
        assert counted(kept) == expected
        rows = counted.modules(kept)
        assert sum(row.params for row in rows) == sum(p.numel() for p in slim.parameters()) == expected.params
        assert sum(row.flops for row in rows) == expected.flops
        assert sum(row.memory_bytes for row in rows) == expected.memory_bytes
    with FlopCounterMode(display=False) as oracle, torch.no_grad():
        slim(*inputs)
    assert 2 * multiply_accumulates(again) == oracle.get_total_flops()
