"""Losses by their path against the class called by hand in the form it documents."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.losses
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.data import losses
from ranp.errors import UsageError, WrongType

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)


def labels(*shape: int, classes: int = 3) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(1))


ONEHOT = {"to_onehot_y": True, "softmax": True}


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 8)])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DiceLoss", ONEHOT),
        ("DiceCELoss", ONEHOT),
        ("DiceCELoss", {**ONEHOT, "weight": [1, 2, 3], "lambda_ce": 0.5}),
        ("DiceFocalLoss", ONEHOT),
        ("GeneralizedDiceLoss", ONEHOT),
        ("TverskyLoss", {**ONEHOT, "alpha": 0.3, "beta": 0.7}),
        ("FocalLoss", {"to_onehot_y": True}),
        ("GeneralizedWassersteinDiceLoss", {"dist_matrix": [[0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [1.0, 0.5, 0.0]]}),
    ],
)
def test_monai_gets_labels_with_a_channel(name: str, settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    out, target = logits(2, 3, *shape), labels(2, *shape)
    given = {key: torch.tensor(v, dtype=torch.float32) if isinstance(v, list) else v for key, v in settings.items()}
    expected = getattr(monai.losses, name)(**given)(out, target.unsqueeze(1))
    loss = losses.get(f"monai.losses.{name}", settings)
    for form in (target, target.unsqueeze(1), target.float().unsqueeze(1), target.to(torch.uint8)):
        assert torch.allclose(loss(out, form), expected)
    assert torch.autograd.grad(loss(out, target), out)[0].any()
    smaller = F.interpolate(out, scale_factor=0.5)
    half = losses.get(f"monai.losses.{name}", settings)(smaller, target)
    nearest = F.interpolate(target.unsqueeze(1).float(), scale_factor=0.5, mode="nearest")
    assert torch.allclose(loss([out, smaller], target), (expected + half) / 2)
    assert torch.allclose(half, getattr(monai.losses, name)(**given)(smaller, nearest.long()))
    of_nnunet = losses.get(f"monai.losses.{name}", settings, supervision="nnunet")
    assert torch.allclose(of_nnunet([smaller, out], target), expected)


@pytest.mark.parametrize("shape", [(), (4, 6), (4, 6, 8)])
def test_classes_by_number_and_their_weights(shape: tuple[int, ...]) -> None:
    out, target = logits(5, 3, *shape).double(), labels(5, *shape)
    loss = losses.get("torch.nn.CrossEntropyLoss", {"weight": [1, 2, 3], "label_smoothing": 0.1})
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert torch.allclose(loss(out, target), F.cross_entropy(out, target, weight, label_smoothing=0.1))
    target[:2] = 255
    loss = losses.get("torch.nn.CrossEntropyLoss", {"ignore_index": 255})
    assert torch.allclose(loss(out, target), F.cross_entropy(out[2:], target[2:]))
    soft = out.detach().softmax(1)
    assert torch.allclose(losses.get("torch.nn.CrossEntropyLoss")(out, soft), F.cross_entropy(out, soft))


@pytest.mark.parametrize("name", ["DiceLoss", "TverskyLoss"])
def test_what_is_ignored_is_left_out_where_the_class_can(name: str) -> None:
    out, target = logits(1, 3, 4, 4), labels(1, 4, 4)
    loss, ignored = losses.get(f"monai.losses.{name}", {**ONEHOT, "ignore_index": 255}), target.clone()
    ignored[:, :, 2:] = 255
    assert torch.allclose(loss(out, ignored), loss(out[..., :2], target[..., :2]), atol=1e-5)


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("torch.nn.MSELoss", F.mse_loss),
        ("torch.nn.SmoothL1Loss", F.smooth_l1_loss),
        ("torch.nn.BCEWithLogitsLoss", F.binary_cross_entropy_with_logits),
        ("monai.losses.SSIMLoss", monai.losses.SSIMLoss(2)),
    ],
)
def test_values_and_masks_of_the_maps_shape(path: str, reference: Callable[..., Tensor]) -> None:
    settings = {"spatial_dims": 2} if "SSIM" in path else {}
    out, target = logits(2, 1, 16, 16), labels(2, 16, 16, classes=2)
    expected = reference(out, target.unsqueeze(1).float())
    for form in (target.float(), target, target.unsqueeze(1), target.bool()):
        assert torch.allclose(losses.get(path, settings)(out, form), expected)


def test_regions_and_one_channel_of_sigmoid_outputs() -> None:
    out, masks = logits(2, 3, 4, 4), labels(2, 3, 4, 4, classes=2)
    dice = losses.get("monai.losses.DiceLoss", {"sigmoid": True})
    assert torch.allclose(dice(out, masks.float()), monai.losses.DiceLoss(sigmoid=True)(out, masks))
    one, target = logits(2, 1, 4, 4), labels(2, 4, 4, classes=2)
    expected = monai.losses.DiceCELoss(sigmoid=True)(one, target.unsqueeze(1).float())
    assert torch.allclose(losses.get("monai.losses.DiceCELoss", {"sigmoid": True})(one, target), expected)


OUT, TARGET = torch.randn(1, 3, 4, 4), labels(1, 4, 4)
FULL = torch.full((1, 4, 4), 255)


@pytest.mark.parametrize(
    ("path", "settings", "outputs", "target", "message"),
    [
        (
            "monai.losses.DiceLoss",
            {"softmax": True},
            OUT,
            TARGET,
            r"^--loss monai.losses.DiceLoss: the target holds labels; --set-loss to_onehot_y=True makes masks",
        ),
        (
            "monai.losses.DiceLoss",
            {"to_onehot_y": True},
            OUT,
            TARGET,
            r"are no probabilities; --set-loss softmax=True or --set-loss sigmoid=True",
        ),
        (
            "monai.losses.DiceLoss",
            ONEHOT,
            OUT[:, :1],
            TARGET,
            r"a softmax over one channel is 1 everywhere; --set-loss sigmoid=True",
        ),
        ("monai.losses.DiceCELoss", ONEHOT, OUT, FULL, r"counts every voxel, and the labels hold 255"),
        (
            "monai.losses.DiceCELoss",
            ONEHOT,
            OUT,
            TARGET * 0 + 3,
            r"^--classes: the network has 3 classes, but a label is 3",
        ),
        ("torch.nn.CrossEntropyLoss", {}, OUT[:, :1], TARGET, r"one channel.*no gradient; expected bce"),
        (
            "torch.nn.CrossEntropyLoss",
            {},
            OUT,
            FULL,
            r"the labels hold 255, which is ignored; --set-loss ignore_index=255 leaves it out",
        ),
        (
            "torch.nn.CrossEntropyLoss",
            {"reduction": "none"},
            OUT,
            TARGET * 0,
            r"values of shape \(1, 4, 4\).*--set-loss reduction='mean'",
        ),
        (
            "torch.nn.BCELoss",
            {},
            OUT[:, :1],
            TARGET * 0,
            r"are no probabilities; torch.nn.BCEWithLogitsLoss takes scores$",
        ),
        (
            "torch.nn.MSELoss",
            {},
            OUT,
            TARGET * 0,
            r"target of the output's shape \(1, 3, 4, 4\), and this one holds labels",
        ),
        (
            "torch.nn.MSELoss",
            {},
            OUT,
            torch.zeros(1, 2, 4, 4),
            r"output's shape \(1, 3, 4, 4\), got float32 \(1, 2, 4, 4\)",
        ),
        ("torch.nn.MSELoss", {}, OUT, {"seg": TARGET}, r"^--loss: the target is a dict"),
    ],
)
def test_what_would_mislead_a_class_is_refused(
    path: str, settings: dict[str, Any], outputs: Tensor, target: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        losses.get(path, settings)(outputs, target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        (
            "monai.losses.DiceLos",
            {},
            r"^--loss monai.losses.DiceLos: monai.losses has no 'DiceLos'; did you mean 'DiceLoss'",
        ),
        ("monai.loses.DiceLoss", {}, r"can't import monai.loses: ModuleNotFoundError.*did you mean 'monai.losses'"),
        ("torch.nn.MSELoss", {"reducton": "sum"}, r"^--set-loss reducton: .* takes .*did you mean 'reduction'"),
        ("monai.losses.DiceLoss", {"softmax": 3}, r"^--set-loss softmax=3: monai.losses.DiceLoss expects bool"),
        ("monai.losses.SSIMLoss", {}, r"^monai.losses.SSIMLoss needs --set-loss spatial_dims=\.\.\."),
        (
            "monai.losses.DiceLoss",
            {"softmax": True, "sigmoid": True},
            r"^--loss .*--set-loss softmax=True .*ValueError",
        ),
        ("ce", {"weight": 1}, r"^--set-loss weight: ce takes no settings"),
        ("mine.py", {}, r"^--loss mine.py: write mine.py:function"),
        ("mine.py:loss", {}, r"^--loss mine.py:loss: no file mine.py"),
        ("torch.nn:", {}, r"^--loss torch.nn: names nothing behind the colon"),
        ("torch.__version__", {}, r"^--loss is a .*; expected a function of \(outputs, target\)"),
    ],
)
def test_paths_that_lead_to_no_loss(path: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        losses.get(path, settings)
    assert "\n" not in str(caught.value)


OWN = """
import torch

LEFT = []

def squared(outputs, target, power=2.0):
    LEFT.append((type(outputs), type(target)))
    return (outputs["out"] - target["value"]).abs().pow(power).mean()

class Cubed:
    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, outputs, target):
        return self.scale * (outputs - target).pow(3).mean()

class Module(torch.nn.Module):
    def forward(self, outputs, target):
        return (outputs - target).sum()

def needy(outputs, target, weights):
    return 0

NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("own_losses.py").write_text(OWN)
    return tmp_path


def test_an_own_function_gets_everything_as_it_is(own: Path) -> None:
    outputs, target = {"out": torch.tensor([1.0, 3.0])}, {"value": torch.zeros(2)}
    assert losses.get("own_losses.py:squared")(outputs, target).item() == 5
    assert losses.get("own_losses.py:squared", {"power": 1})(outputs, target).item() == 2
    assert losses.get(f"{own}/own_losses.py:squared", {"power": 3})(outputs, target).item() == 14


def test_an_own_class_is_built(own: Path) -> None:
    outputs, target = torch.tensor([1.0, 3.0]), torch.zeros(2)
    assert losses.get("own_losses.py:Cubed")(outputs, target).item() == 14
    assert losses.get("own_losses.py:Cubed", {"scale": 2.0})(outputs, target).item() == 28
    assert losses.get("own_losses.py:Module")(outputs, target).item() == 4
    assert losses.get("own_losses:Module")(outputs, target).item() == 4
    assert losses.get("own_losses.Cubed")(outputs, target).item() == 14
    sys.modules.pop("own_losses")
    assert isinstance(losses.get("own_losses.py:Module"), nn.Module)


@pytest.mark.parametrize(
    ("word", "settings", "message"),
    [
        ("squared", {"powr": 1}, r"^--set-loss powr: own_losses.py:squared takes power; did you mean 'power'"),
        ("Cubed", {"size": 1}, r"^--set-loss size: own_losses.py:Cubed takes scale"),
        ("needy", {}, r"^own_losses.py:needy needs --set-loss weights=\.\.\."),
        ("square", {}, r"has no 'square'; did you mean 'squared'"),
        ("NUMBER", {}, r"^--loss is an int; expected a function of \(outputs, target\), or a class"),
    ],
)
def test_mistakes_about_an_own_loss(own: Path, word: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        losses.get(f"own_losses.py:{word}", settings)


def test_an_own_loss_weighs_its_maps_itself(own: Path) -> None:
    for word in ("squared", "Cubed"):
        with pytest.raises(UsageError, match=r"^--deep-supervision nnunet: own_losses.py:\w+ is given all outputs"):
            losses.get(f"own_losses.py:{word}", supervision="nnunet")


def test_a_runs_files_import_no_loss_of_the_users(own: Path) -> None:
    for path in ("own_losses.py:squared", "own_losses.squared", "os:system", "torch.nn:functional.mse_loss",
                 "monai.losses.PerceptualLoss", "torch.nn.Linear"):  # fmt: skip
        with pytest.raises(
            UsageError, match=rf"^{path}: a run's files never make ranp import this loss.*--loss {path}$"
        ):
            losses.get(path, trusted=False)
    assert "own_losses" not in sys.modules
    assert callable(losses.get("monai.losses.DiceLoss", ONEHOT, trusted=False))
    assert callable(losses.get("torch.nn:MSELoss", trusted=False))


def test_wrong_type_is_a_type_error() -> None:
    with pytest.raises(WrongType):
        losses.get("torch.__version__")
