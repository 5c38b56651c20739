"""Peak training memory against sums made by hand, and against a real step followed by a tracker written twice."""

import gc
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet, UNet
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from ranp import cost, models
from ranp.data import losses
from ranp.errors import UnsupportedError, UsageError
from ranp.inputs import as_arguments, flatten

WEIGHT = 256 * 256 * 4
BATCH = 128 * 256 * 4


def network(depth: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(depth)))


def test_parameters_gradients_and_states_are_their_sizes() -> None:
    found = cost.peak_training_memory(network(3), torch.zeros(128, 256))
    assert (found.parameters, found.gradients) == (3 * WEIGHT, 3 * WEIGHT)
    assert found.optimizer == 6 * WEIGHT + 3 * 512  # two moments, and a step count in a block of its own
    assert found.peak == sum(getattr(found, part) for part in cost.PARTS)
    assert (found.inputs, found.phase) == (BATCH, "optimizer")


def test_an_optimizer_without_state_takes_none() -> None:
    found = cost.peak_training_memory(network(2), torch.zeros(128, 256), cost.Step(optimizer=torch.optim.SGD))
    assert found.optimizer == 0


def test_activations_grow_with_what_the_backward_needs() -> None:
    """A chain of sigmoids keeps every output: each further one adds its output."""

    def activations(depth: int) -> int:
        chain = nn.Sequential(network(1), *(nn.Sigmoid() for _ in range(depth)))
        return cost.peak_training_memory(chain, torch.zeros(128, 256), cost.Step(optimizer=torch.optim.SGD)).peak

    assert activations(9) - activations(8) == BATCH


def test_what_the_loss_stores_counts() -> None:
    def square(outputs: Tensor, target: None) -> Tensor:
        return outputs.repeat(16, 1).exp().mean()

    plain = cost.peak_training_memory(network(1), torch.zeros(128, 256))
    assert cost.peak_training_memory(network(1), torch.zeros(128, 256), cost.Step(square)).peak > plain.peak


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


class Naive(TorchDispatchMode):
    """The oracle: after every op, all storages ever seen that are still there are summed anew."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[int, Any] = {}
        self.most = 0

    def see(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.seen[id(storage)] = weakref.ref(storage)
        alive = [storage for storage in (each() for each in self.seen.values()) if storage is not None]
        self.seen = {id(storage): weakref.ref(storage) for storage in alive}
        self.most = max(self.most, sum(-(-storage.nbytes() // 512) * 512 for storage in alive))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.see(*(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)))
        return out


def real_peak(model: nn.Module, inputs: Any, step: cost.Step) -> int:
    """The most bytes of the last of a few real steps, written out."""
    optimizer, naive = step.optimizer(model.train().parameters()), Naive()
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, enabled=step.amp == "fp16")
    naive.see(*model.parameters(), *model.buffers(), *flatten((inputs, step.target)))
    args, kwargs = as_arguments(inputs)
    kind = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[step.amp]
    gc.disable()
    try:
        with naive:
            for _ in range(3):
                naive.most = 0
                for _ in range(step.accumulate):
                    with torch.autocast("cpu", kind, enabled=step.amp != "off"):
                        value = step.loss(model(*args, **kwargs), step.target) / step.accumulate
                    scaler.scale(value).backward()
                if step.clip:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(model.parameters(), step.clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                del value
    finally:
        gc.enable()
    return naive.most


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, amsgrad=True),
    "adamw": torch.optim.AdamW,
}
MONAI = {"softmax": True, "to_onehot_y": True}
LOSSES: dict[str, dict[str, Any]] = {
    "ce": {}, "ce-dice": {}, "bce": {}, "bce-dice": {}, "mse": {}, "l1": {}, "torch.nn.SmoothL1Loss": {},
    "monai.losses.DiceCELoss": MONAI, "monai.losses.TverskyLoss": MONAI,
    "monai.losses.FocalLoss": {"to_onehot_y": True},
}  # fmt: skip


def labels(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def step_with(word: str, **how: Any) -> cost.Step:
    """A step of a loss on three maps of 8^3 voxels, in a batch of two."""
    values = word in ("mse", "l1") or "L1" in word
    target = torch.zeros(2, 3, 8, 8, 8) if values else labels(2, 3, 8, 8, 8) if "bce" in word else labels(2, 8, 8, 8)
    return cost.Step(losses.get(word, LOSSES[word]), target, **how)


def monai_unet() -> UNet:
    return UNet(3, 1, 3, (4, 8), (2,), num_res_units=1)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_prediction_is_a_real_step_to_the_byte(loss: str, amp: Any) -> None:
    step = step_with(loss, amp=amp, clip=12.0)
    model, x = monai_unet(), torch.randn(2, 1, 8, 8, 8)
    assert cost.training_peak(model, x, step) == real_peak(model, x, step)


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_so_it_is_with_every_optimizer(optimizer: str, amp: Any) -> None:
    """Of a U-Net the peak is in the backward, of layers that are larger than what they compute in the optimizer."""
    how = {"optimizer": OPTIMIZERS[optimizer], "amp": amp, "clip": 1.0}
    model, x = monai_unet(), torch.randn(2, 1, 8, 8, 8)
    assert cost.training_peak(model, x, step_with("ce", **how)) == real_peak(model, x, step_with("ce", **how))
    step = cost.Step(**how)
    found = cost.peak_training_memory(network(2), torch.randn(2, 256), step)
    assert found.peak == real_peak(network(2), torch.randn(2, 256), step)
    assert found.phase == "optimizer"


def heads() -> DynUNet:
    """MONAI's heads lie in a list, so that the outputs of a step are kept until the next."""
    return DynUNet(3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 4, 4], deep_supervision=True, deep_supr_num=1)


def stereo_pair() -> tuple[nn.Module, Any, cost.Step]:
    loss = losses.get("stereo", maxdisp=16)
    return (
        models.build("psm", maxdisp=16),
        (torch.randn(2, 3, 256, 256),) * 2,
        cost.Step(loss, torch.zeros(2, 256, 256)),
    )


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.rest = nn.ModuleList([nn.GroupNorm(2, 16), nn.InstanceNorm1d(16, affine=True), nn.Dropout(0.3)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x).transpose(1, 2)
        for layer in self.rest:
            x = layer(x)
        return x


def case(name: str) -> tuple[nn.Module, Any, cost.Step]:
    x = torch.randn(2, 1, 16, 16, 16)
    if name == "psm":
        return stereo_pair()
    if name == "tokens":
        return Tokens(), torch.randn(2, 8, 16), cost.Step(losses.get("ce"), labels(2, 8))
    if name.startswith("heads"):
        supervision = name.partition("-")[2]
        return heads(), x, cost.Step(losses.get("ce-dice", supervision=supervision), labels(2, 16, 16, 16))
    network = models.build("mobilenetv2-3d", classes=5)
    return network, torch.randn(2, 3, 16, 32, 32), cost.Step(losses.get("ce"), labels(2))


@pytest.mark.parametrize(
    ("name", "amp"),
    [
        ("psm", "off"),
        *((name, amp) for name in ("heads-equal", "heads-nnunet", "mobilenet", "tokens") for amp in ("off", "bf16")),
    ],
)
def test_it_holds_for_all_kinds_of_networks(name: str, amp: Any) -> None:
    model, inputs, step = case(name)
    step = cost.Step(step.loss, step.target, amp=amp)
    assert cost.training_peak(model, inputs, step) == real_peak(model, inputs, step)


def test_gradients_of_a_batch_before_lie_beside_the_next() -> None:
    x, model = torch.randn(2, 1, 8, 8, 8), monai_unet()
    step = step_with("ce", accumulate=2)
    assert cost.training_peak(model, x, step) == real_peak(model, x, step)
    assert cost.training_peak(model, x, step) > cost.training_peak(model, x, step_with("ce"))


class Recomputed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=False, preserve_rng_state=False)


def test_what_is_checkpointed_is_not_kept() -> None:
    def chain() -> nn.Module:
        return nn.Sequential(network(1), *(nn.Sequential(*(nn.Sigmoid() for _ in range(8))) for _ in range(4)))

    x = torch.randn(128, 256)
    step = cost.Step(checkpoint=("1", "2", "3"))
    found = cost.peak_training_memory(chain(), x, step)
    assert found.peak < cost.training_peak(chain(), x)
    by_hand = chain()
    for name in step.checkpoint:
        by_hand[int(name)] = Recomputed(by_hand[int(name)])  # type: ignore[operator]
    assert found.peak == real_peak(by_hand, x, cost.Step())


def test_a_module_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"checkpoint='model.zero'.*did you mean"):
        cost.training_peak(monai_unet(), torch.zeros(2, 1, 8, 8, 8), cost.Step(checkpoint=("model.zero",)))


def test_where_the_peak_is() -> None:
    """A layer that makes much out of little stands where the peak is, forward and backward."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4096), nn.Linear(4096, 8))
    found = cost.peak_training_memory(model, torch.zeros(2048, 8))
    assert (found.module, found.phase) == ("2", "backward")
    assert found.activations >= 2048 * 4096 * 4
    assert found.temporaries >= 2048 * 4096 * 4  # its gradient

    class Loud(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x.detach().repeat(1, 4096).sum(1, keepdim=True)

    found = cost.peak_training_memory(nn.Sequential(nn.Linear(8, 8), Loud()), torch.zeros(64, 8))
    assert (found.module, found.phase) == ("1", "forward")


def test_a_loss_refuses_a_target_as_it_does_in_a_real_step() -> None:
    step = cost.Step(losses.get("ce"), labels(2, 5, 5, 5, 5))
    with pytest.raises(UsageError, match="expected logits"):
        cost.training_peak(monai_unet(), torch.zeros(2, 1, 8, 8, 8), step)


def test_the_plan_of_a_slim_network_takes_less_and_as_much_as_the_network() -> None:
    """A network whose tensors are on the meta device is enough, so that plans are priced before they are cut."""
    wide, slim = (models.build("unet3d", base_width=width, depth=2) for width in (8, 4))
    x = torch.empty(2, 1, 16, 16, 16, device="meta")
    assert cost.training_peak(slim, x) < cost.training_peak(wide, x)
    assert cost.training_peak(slim.to("meta"), x) == real_peak(
        models.build("unet3d", base_width=4, depth=2), torch.randn(2, 1, 16, 16, 16), cost.Step()
    )


def test_a_unet_at_the_size_people_train_it() -> None:
    """Independent trackers gave 390.7 MiB for two classes, AdamW and float32, and 269 with bfloat16."""
    model = UNet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    x, target = (torch.empty(2, *more, device="meta") for more in ((1, 96, 96, 96), (96, 96, 96)))
    for amp, megabytes in (("off", 390.7), ("bf16", 269.0)):
        step = cost.Step(losses.get("ce"), target.long(), amp=amp)  # type: ignore[arg-type]
        assert cost.training_peak(model, x, step) / 2**20 == pytest.approx(megabytes, abs=1)


def test_a_measured_step_has_a_figure_and_leaves_the_network() -> None:
    model, x = monai_unet().eval(), torch.randn(2, 1, 8, 8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = cost.measure_training_memory(model, x, step_with("ce"))
    assert found.device == "cpu"
    assert found.bytes >= 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training
