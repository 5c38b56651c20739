import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.data import losses
from ranp.errors import UsageError


def logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)


def labels(*shape: int, classes: int = 3) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(1))


def test_names() -> None:
    assert losses.names() == ["ce", "ce-dice", "bce", "bce-dice", "stereo", "mse", "l1"]
    with pytest.raises(UsageError, match=r"^loss='ce_dice': expected ce, .*file.py:function; did you mean 'ce-dice'\?"):
        losses.get("ce_dice")


class TestCrossEntropy:
    loss = staticmethod(losses.get("ce"))

    def test_uniform_logits(self) -> None:
        out = torch.zeros(2, 4, 3, 3, dtype=torch.float64)
        assert self.loss(out, labels(2, 3, 3)).item() == pytest.approx(math.log(4))

    def test_classes_of_samples(self) -> None:
        out, target = logits(5, 3), labels(5)
        assert torch.equal(self.loss(out, target), F.cross_entropy(out, target))

    def test_ignored_voxels(self) -> None:
        out, target = logits(1, 3, 4, 4), labels(1, 4, 4)
        target[:, :, 2:] = 255
        assert torch.allclose(self.loss(out, target), F.cross_entropy(out[..., :2], target[..., :2]))

    def test_deep_supervision_of_every_form(self) -> None:
        fine, coarse, target = logits(1, 3, 4, 4), logits(1, 3, 2, 2), labels(1, 4, 4)
        expected = (F.cross_entropy(fine, target) + F.cross_entropy(coarse, target[:, ::2, ::2])) / 2
        for outputs in ([fine, coarse], (fine, (coarse,)), {"out": fine, "aux": coarse}, (fine, coarse, None)):
            assert torch.allclose(self.loss(outputs, target), expected)

    def test_a_map_larger_than_the_labels(self) -> None:
        large, target = logits(1, 3, 4, 4), labels(1, 2, 2)
        expected = F.cross_entropy(large, target.repeat_interleave(2, 1).repeat_interleave(2, 2))
        assert torch.allclose(self.loss(large, target), expected)

    def test_stacked_heads(self) -> None:
        heads, target = logits(2, 3, 3, 4, 4), labels(2, 4, 4)
        expected = sum(F.cross_entropy(heads[:, k], target) for k in range(3)) / 3
        assert torch.allclose(self.loss(heads, target), expected)

    def test_the_networks_own_loss_is_added(self) -> None:
        out, target = logits(1, 3, 4, 4), labels(1, 4, 4)
        assert torch.allclose(self.loss((out, torch.tensor(2.0)), target), F.cross_entropy(out, target) + 2)

    @pytest.mark.parametrize(
        ("outputs", "target", "message"),
        [
            (torch.zeros(1, 3, 4, 4), torch.zeros(1, dtype=torch.int64), r"int64 labels \(1,\), got \(1, 3, 4, 4\)"),
            (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 0.5), "whole numbers, got float32 with fractions"),
            (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), math.nan), "whole numbers"),
            (torch.zeros(1, 3, 4, 4), [0, 1], "^loss=: the target is a list; expected a tensor of labels"),
            (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), "^loss='ce': the network gives one channel.*expected bce"),
            (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 3), "^classes=: the network has 3 classes.*label is 3"),
            (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), -1), "label is -1"),
            (None, torch.zeros(1, 4, 4, dtype=torch.int64), "got nothing"),
            ("text", torch.zeros(1, 4, 4, dtype=torch.int64), "returned a str"),
        ],
    )
    def test_mistakes(self, outputs: object, target: Tensor, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            self.loss(outputs, target)


@pytest.mark.parametrize("name", ["ce", "ce-dice"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 6)])
def test_labels_with_a_channel_of_their_own_and_of_any_dtype(
    name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    out, target = logits(2, 3, *shape), labels(2, *shape)
    target[..., 0] = 255
    expected = losses.get(name)(out, target)
    assert torch.equal(losses.get(name)(out, target.to(dtype)), expected)
    assert torch.equal(losses.get(name)(out, target.to(dtype).unsqueeze(1)), expected)
    heads = torch.stack([out, out], 1)  # (B, heads, classes, *spatial)
    assert torch.allclose(losses.get(name)(heads, target.unsqueeze(1)), expected)


def test_labels_of_monai() -> None:
    from monai.data import MetaTensor

    out, target = logits(2, 3, 4, 4), labels(2, 4, 4)
    found = losses.get("ce-dice")(out, MetaTensor(target.unsqueeze(1).float()))
    assert type(found) is Tensor
    assert torch.equal(found, losses.get("ce-dice")(out, target))


class TestBinary:
    @pytest.mark.parametrize("name", ["bce", "bce-dice"])
    def test_one_channel_takes_labels_in_every_form(self, name: str) -> None:
        out, target = logits(2, 1, 4, 4), labels(2, 4, 4, classes=2)
        target[..., 0] = 255
        expected = losses.get(name)(out, target)
        for form in (target.unsqueeze(1), target.float(), target.unsqueeze(1).double(), target.to(torch.uint8)):
            assert torch.equal(losses.get(name)(out, form), expected)

    def test_by_hand(self) -> None:
        out, target = logits(2, 1, 4, 4), labels(2, 4, 4, classes=2)
        target[..., 0] = 255
        p, t = out[:, 0, :, 1:].double().sigmoid(), target[..., 1:].double()
        crossed = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
        dice = (2 * (p * t).sum() + 0.1) / (p.sum() + t.sum() + 0.1)
        assert losses.get("bce")(out, target).item() == pytest.approx(crossed.item(), rel=1e-5)
        assert losses.get("bce-dice")(out, target).item() == pytest.approx((crossed + 1 - dice).item(), rel=1e-5)

    def test_overlapping_regions(self) -> None:
        out, masks = logits(2, 3, 4, 4), labels(2, 3, 4, 4, classes=2)
        expected = F.binary_cross_entropy_with_logits(out, masks.float())
        assert torch.allclose(losses.get("bce")(out, masks), expected)
        perfect = (masks.float() * 2 - 1) * 50
        assert losses.get("bce-dice")(perfect, masks).item() == pytest.approx(0, abs=1e-5)

    def test_several_maps_and_samples(self) -> None:
        fine, coarse, target = logits(1, 1, 4, 4), logits(1, 1, 2, 2), labels(1, 4, 4, classes=2)
        bce = losses.get("bce")
        assert torch.allclose(bce([fine, coarse], target), (bce(fine, target) + bce(coarse, target[:, ::2, ::2])) / 2)
        out, classes = logits(5, 1), labels(5, classes=2)
        assert torch.allclose(bce(out, classes), F.binary_cross_entropy_with_logits(out[:, 0], classes.float()))

    @pytest.mark.parametrize("name", ["bce", "bce-dice"])
    def test_has_a_gradient_where_a_softmax_has_none(self, name: str) -> None:
        out = logits(2, 1, 4, 4)
        (gradient,) = torch.autograd.grad(losses.get(name)(out, labels(2, 4, 4, classes=2)), out)
        assert (gradient != 0).all()

    def test_mistakes(self) -> None:
        with pytest.raises(UsageError, match=r"^loss='bce': expected labels 0 and 1 .*but a label is 2$"):
            losses.get("bce")(torch.zeros(1, 1, 4), torch.full((1, 4), 2))
        with pytest.raises(UsageError, match=r"^loss=: expected logits .* got \(1, 3, 4\)$"):
            losses.get("bce")(torch.zeros(1, 3, 4), torch.zeros(1, 4))


def test_one_channel_is_no_softmax() -> None:
    ones = [losses.for_channels(name, 1) for name in losses.names()]
    assert ones == ["bce", "bce-dice", "bce", "bce-dice", "stereo", "mse", "l1"]
    assert [losses.for_channels(name, 2) for name in losses.names()] == losses.names()
    with pytest.raises(UsageError, match=r"loss='ce-dice': the network gives one channel.*expected bce-dice$"):
        losses.check_channels("ce-dice", 1)
    losses.check_channels("bce", 1)


class TestCrossEntropyDice:
    loss = staticmethod(losses.get("ce-dice"))

    def test_perfect_answer(self) -> None:
        target = labels(1, 6, 6, classes=3)
        out = 50.0 * F.one_hot(target, 3).movedim(-1, 1)
        assert self.loss(out, target).item() == pytest.approx(0, abs=1e-5)

    def test_by_hand(self) -> None:
        """Two voxels of classes 0 and 1, uniform scores: overlap 0.5, sizes 1 and 1."""
        expected = math.log(2) + 1 - (2 * 0.5 + 0.1) / (1 + 1 + 0.1)
        out = torch.zeros(1, 2, 2, dtype=torch.float64)
        assert self.loss(out, torch.tensor([[0, 1]])).item() == pytest.approx(expected)

    def test_an_absent_class_costs_what_is_given_to_it(self) -> None:
        target = torch.zeros(1, 4, dtype=torch.int64)
        out = torch.tensor([0.0, -50.0])[None, :, None].expand(1, 2, 4)
        assert self.loss(out, target).item() == pytest.approx(0, abs=1e-5)

    def test_ignored_voxels(self) -> None:
        out, target = logits(1, 3, 4, 4), labels(1, 4, 4)
        target[:, :, 2:] = 255
        assert torch.allclose(self.loss(out, target), self.loss(out[..., :2], target[..., :2]))

    def test_gradient_and_one_class(self) -> None:
        out = logits(1, 3, 4, 4)
        self.loss(out, labels(1, 4, 4)).backward()
        assert out.grad is not None
        assert out.grad.isfinite().all()
        with pytest.raises(UsageError, match=r"ce-dice.*gives one channel"):
            self.loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))


class TestStereo:
    loss = staticmethod(losses.get("stereo", maxdisp=16))

    def test_three_maps(self) -> None:
        target = torch.full((1, 2, 2), 4.0)
        maps = tuple(target + error for error in (2.0, 3.0, 0.5))
        assert self.loss(maps, target).item() == pytest.approx(0.5 * 1.5 + 0.7 * 2.5 + 1.0 * 0.125)

    def test_one_map_and_far_pixels(self) -> None:
        target = torch.tensor([[[4.0, 20.0]]])
        assert self.loss(torch.tensor([[[6.0, 0.0]]]), target).item() == pytest.approx(1.5)

    def test_mistakes(self) -> None:
        with pytest.raises(UsageError, match="no pixel of the target has a disparity below 16"):
            self.loss(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 16.0))
        with pytest.raises(UsageError, match="expected one or three maps"):
            self.loss([torch.zeros(1, 2, 2)] * 2, torch.zeros(1, 2, 2))


class TestValues:
    @pytest.mark.parametrize(("name", "reference"), [("mse", F.mse_loss), ("l1", F.l1_loss)])
    @pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 3, 4), (2, 2, 4, 6), (2, 1, 4, 6, 2)])
    def test_values_of_one_shape(self, name: str, reference: Any, shape: tuple[int, ...]) -> None:
        out = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        target = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        assert torch.equal(losses.get(name)(out, target), reference(out, target))
        if shape[1:2] == (1,):
            assert torch.equal(losses.get(name)(out, target.squeeze(1)), reference(out, target))

    def test_a_smaller_map_is_compared_with_averages(self) -> None:
        fine, coarse, target = logits(1, 2, 4, 4), logits(1, 2, 2, 2), torch.randn(1, 2, 4, 4)
        expected = (F.mse_loss(fine, target) + F.mse_loss(coarse, F.avg_pool2d(target, 2))) / 2
        assert torch.allclose(losses.get("mse")([fine, coarse], target), expected)

    def test_stacked_heads_of_values(self) -> None:
        heads, target = logits(1, 3, 2, 4, 4, 2), torch.randn(1, 2, 4, 4, 2)
        expected = sum(F.l1_loss(heads[:, k], target) for k in range(3)) / 3
        assert torch.allclose(losses.get("l1")(heads, target), expected)

    def test_mistakes(self) -> None:
        with pytest.raises(UsageError, match=r"^loss='mse': expected a target of the output's shape \(1, 2, 4\), got"):
            losses.get("mse")(torch.zeros(1, 2, 4), torch.zeros(1, 4))
        with pytest.raises(UsageError, match=r"^loss='l1': expected a target of real numbers, got bool$"):
            losses.get("l1")(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.bool))


class TestSupervision:
    @pytest.mark.parametrize("name", ["ce", "ce-dice"])
    def test_nnunet_halves_from_the_largest_and_leaves_out_the_smallest(self, name: str) -> None:
        loss = losses.get(name)
        maps, target = [logits(2, 3, 16 >> k, 16 >> k) for k in range(4)], labels(2, 16, 16)
        weights = torch.tensor([1, 1 / 2, 1 / 4, 0]) / 1.75
        expected = sum(w * loss(m, target) for w, m in zip(weights, maps, strict=True))
        for order in (maps, maps[::-1], (maps[2], maps[0], maps[3], maps[1])):
            found = losses.get(name, supervision="nnunet")(order, target)
            assert torch.allclose(found, expected)
            assert torch.autograd.grad(found, maps[3], allow_unused=True) == (None,)

    def test_one_map_counts_whole_and_heads_of_one_size_keep_their_order(self) -> None:
        target, heads = labels(2, 4, 4), logits(2, 3, 3, 4, 4)
        of_nnunet, ce = losses.get("ce", supervision="nnunet"), losses.get("ce")
        assert torch.equal(of_nnunet(heads[:, 0], target), ce(heads[:, 0], target))
        expected = ce(heads[:, 0], target) * 2 / 3 + ce(heads[:, 1], target) / 3
        assert torch.allclose(of_nnunet(heads, target), expected)
        assert torch.allclose(of_nnunet((*heads.unbind(1), torch.tensor(2.0)), target), expected + 2)

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
    def test_weights_add_up_to_one(self, count: int) -> None:
        maps = [torch.zeros(1, 4, 2 ** (count - k), 2) for k in range(count)]
        loss = losses.get("ce", supervision="nnunet")(maps, torch.zeros(1, 2**count, 2))
        assert loss.item() == pytest.approx(math.log(4))

    def test_mistakes(self) -> None:
        with pytest.raises(UsageError, match=r"^deep_supervision='nnu-net': expected equal or nnunet; did you mean"):
            losses.get("ce", supervision="nnu-net")
        with pytest.raises(UsageError, match="stereo weighs its maps itself"):
            losses.get("stereo", supervision="nnunet")


@pytest.mark.parametrize(
    ("task", "channels", "default", "expected"),
    [
        ("segmentation", 4, None, "ce"),
        ("segmentation", 4, "ce-dice", "ce-dice"),
        ("segmentation", 1, None, "bce"),
        ("segmentation", 1, "ce-dice", "bce-dice"),
        ("segmentation", 4, "stereo", "ce"),
        ("regions", 3, None, "bce"),
        ("regions", 3, "ce-dice", "bce-dice"),
        ("regions", 1, "bce-dice", "bce-dice"),
        ("classification", 101, "ce-dice", "ce"),
        ("classification", 1, None, "bce"),
        ("stereo", 64, None, "stereo"),
        ("regression", 1, "ce", "mse"),
    ],
)
def test_the_loss_follows_from_task_and_network(task: str, channels: int, default: str | None, expected: str) -> None:
    assert losses.for_task(task, channels, default) == expected


def test_a_task_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"^task='segmentaton': expected .*; did you mean 'segmentation'\?"):
        losses.for_task("segmentaton", 1)
