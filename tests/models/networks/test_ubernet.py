"""One trunk serves all scales, each with batch norm of its own, and every task has its own scores."""

import torch

from ranp import models
from ranp.models.networks._blocks import resized

SETTINGS = {"width": 2, "hidden": 8}


def image() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_every_task_gives_a_map_of_the_image() -> None:
    network = models.build("ubernet", tasks=[4, 1, 3], scales=[1.0, 0.5], **SETTINGS).eval()
    assert [tuple(out.shape) for out in network(image())] == [(2, n, 64, 96) for n in (4, 1, 3)]


def test_the_trunk_runs_at_each_scale_with_the_same_weights() -> None:
    network = models.build("ubernet", tasks=[2], scales=[1.0, 0.5], **SETTINGS)
    sizes = []
    network.levels[0].register_forward_hook(lambda _, given, __: sizes.append(tuple(given[0].shape[2:])))
    network(image())[0].mean().backward()
    assert sizes == [(64, 96), (32, 48)]
    assert network.levels[0][0].weight.grad is not None
    counted = {int(norm.num_batches_tracked) for norms in network.norms for norm in norms}
    assert counted == {1}
    assert not torch.equal(network.norms[0][0].running_mean, network.norms[1][0].running_mean)


def test_a_pyramid_is_its_scales_fused() -> None:
    both = models.build("ubernet", tasks=[2], scales=[1.0, 0.5], **SETTINGS).double().eval()
    x = image().double()
    parts = []
    for i, scale in enumerate((1.0, 0.5)):
        one = models.build("ubernet", tasks=[2], scales=[1.0], **SETTINGS).double().eval()
        one.levels.load_state_dict(both.levels.state_dict())
        one.norms[0].load_state_dict(both.norms[i].state_dict())
        one.tasks[0].scores.load_state_dict(both.tasks[0].scores.state_dict())
        torch.nn.init.dirac_(one.tasks[0].fuse.weight)
        one.tasks[0].fuse.bias.data.zero_()
        size = [round(n * scale) for n in x.shape[2:]]
        parts.append(resized(one(resized(x, size))[0], x.shape[2:]))
    assert torch.allclose(both(x)[0], both.tasks[0].fuse(torch.cat(parts, dim=1)), rtol=0, atol=1e-12)
