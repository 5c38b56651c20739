import pytest
import torch
from torch import Tensor, nn

from ranp.adapters.fusion import FusedSegmenter, fuse
from ranp.adapters.fusion._association import association_loss, hard_assignment
from ranp.adapters.fusion._consistency import consistent_logits
from ranp.adapters.fusion._fuse import INTERVAL
from ranp.adapters.fusion._superpixels import SlicSuperpixels
from ranp.adapters.transparent import TransparentStack
from ranp.errors import UsageError


def network(outputs: int, dims: int = 2, inputs: int = 1) -> nn.Module:
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    with torch.random.fork_rng():
        torch.manual_seed(outputs)
        layers = [conv(inputs, 8, 3, padding=1), nn.ReLU(), conv(8, outputs, 3, padding=1)]
    return nn.Sequential(*layers).double().eval()


class Unfolded(nn.Module):
    """Runs on images of 8 x 8 alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 1, 8, 8).expand(-1, 9, -1, -1)


def image(*sizes: int) -> Tensor:
    return torch.rand(2, 1, *sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("sizes", [(16, 20), (8, 9, 10)])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_starts_as_the_segmenter_averaged_over_superpixels(sizes: tuple[int, ...], activation: str | None) -> None:
    segmenter, x = network(3, len(sizes)), image(*sizes)
    fused = fuse(segmenter, example=x, segments=20, activation=activation).eval()
    expected = consistent_logits(segmenter(x), SlicSuperpixels(20)(x))
    torch.testing.assert_close(fused(x), expected)
    torch.testing.assert_close(fused.refined(x), segmenter(x), atol=1e-9, rtol=1e-9)


def test_maps_may_be_given() -> None:
    segmenter, x = network(3), image(8, 8)
    maps = torch.randint(0, 5, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    fused = fuse(segmenter, classes=3, count=5)
    torch.testing.assert_close(fused(x, maps), consistent_logits(segmenter(x), maps))
    with pytest.raises(UsageError, match=r"expected shape \(2, 8, 8\)"):
        fused(x, maps[:, :4])
    with pytest.raises(UsageError, match=r"expected labels in 0 \.\. 4, received -1 \.\. 3"):
        fused(x, maps - 1)


def test_a_second_network_gives_maps_and_scores() -> None:
    segmenter, superpixels, x = network(3), network(9), image(16, 16)
    fused = fuse(segmenter, superpixels, classes=3, interval=4)
    joint = fused.joint(x)
    torch.testing.assert_close(joint.logits, fused(x))
    torch.testing.assert_close(joint.scores, superpixels(x))


def test_both_networks_and_the_stack_learn_at_their_own_rates() -> None:
    fused = fuse(network(3), network(9), classes=3, interval=4).train()
    groups = fused.param_groups()
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("segmenter", 1e-6),
        ("superpixels", 1e-6),
        ("transparent", 1e-7),
    ]
    assert sum(len(group["params"]) for group in groups) == len(list(fused.parameters()))
    before = {name: value.clone() for name, value in fused.state_dict().items()}
    optimizer = torch.optim.SGD(fused.param_groups(networks=0.1, transparent=0.1))
    labels = (image(16, 16)[:, 0] > 0.5).long()
    joint = fused.joint(10 * image(16, 16))
    loss = nn.functional.cross_entropy(joint.logits, labels) + association_loss(joint.scores, labels, 4, classes=2)
    loss.backward()
    optimizer.step()
    assert all((value != before[name]).any() for name, value in fused.state_dict().items())


def test_parameters_of_both_networks_are_listed_once() -> None:
    shared = network(9)
    groups = fuse(shared, shared, classes=9, interval=4).param_groups()
    assert [group["name"] for group in groups] == ["segmenter", "transparent"]


def test_slic_has_no_parameters_to_learn() -> None:
    fused = fuse(network(3), classes=3)
    assert [group["name"] for group in fused.param_groups()] == ["segmenter", "transparent"]
    with pytest.raises(UsageError, match="joint: only superpixels of a grid"):
        fused.joint(image(8, 8))


def test_round_trip_through_a_state_dict() -> None:
    x = image(16, 16)
    fused, again = (fuse(network(3), network(9), classes=3, interval=4, seed=seed) for seed in (0, 1))
    again.load_state_dict(fused.state_dict())
    assert torch.equal(fused(x), again(x))


@pytest.mark.parametrize(("dims", "cells"), [(2, 9), (3, 27)])
@pytest.mark.parametrize("given", [False, True])
def test_two_networks_are_enough(dims: int, cells: int, given: bool) -> None:
    """Classes are counted, and scores of a grid are known by their channels; its interval is the default."""
    segmenter, superpixels, x = network(3, dims), network(cells, dims), image(*(20, 18, 17)[:dims])
    fused = fuse(segmenter, superpixels, example=x) if given else fuse(segmenter, superpixels)
    expected = consistent_logits(segmenter(x), hard_assignment(superpixels(x), INTERVAL))
    torch.testing.assert_close(fused(x), expected)
    assert fused.has_grid


def test_a_module_that_makes_maps_is_taken_as_it_is() -> None:
    maps = SlicSuperpixels(6)
    assert fuse(network(3), maps).superpixels is maps


def test_many_classes_widen_the_default_stack() -> None:
    fused = fuse(network(70), classes=70)
    assert isinstance(fused, FusedSegmenter)
    assert isinstance(fused.transparent, TransparentStack)
    assert [layer.weight.shape[0] for layer in fused.transparent.layers] == [70, 70, 70]


def test_a_segmenter_of_several_outputs_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(UsageError, match="segmenter: expected a module that returns one tensor, received tuple"):
        fuse(Two(), example=image(8, 8))
    with pytest.raises(UsageError, match="segmenter: expected one tensor of logits, received a tuple"):
        fuse(Two(), classes=1)(image(8, 8))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UsageError, match="give classes= or example="):
        fuse(Unfolded())
    with pytest.raises(UsageError, match="classes=4: the segmenter returns 3 channels"):
        fuse(network(3), classes=4, example=image(8, 8))
    with pytest.raises(UsageError, match="interval=4"):
        fuse(network(3), classes=3, interval=4)
    with pytest.raises(UsageError, match=r"expected integer maps .* received torch.float64 \(2, 5, 8, 8\)"):
        fuse(network(3), network(5), example=image(8, 8))
    with pytest.raises(UsageError, match=r"expected integer maps .* received torch.float64 \(1, 5, 128, 128\)"):
        fuse(network(3), network(5), classes=3)
    with pytest.raises(UsageError, match="interval=4: the superpixels are integer maps"):
        fuse(network(3), SlicSuperpixels(4), example=image(8, 8), interval=4)
    with pytest.raises(UsageError, match="need interval="):
        fuse(network(3), Unfolded(), classes=3)(image(8, 8))
    with pytest.raises(UsageError, match="widths="):
        fuse(network(3), classes=3, widths=(2, 2))
