from pathlib import Path
from typing import Any

import nnunet_plans
import pytest
import torch
from torch import nn

from ranp.adapters.nnunet import network, read_word, slim_network
from ranp.errors import UsageError
from ranp.models.spec import check_trusted, resolve

LIBRARY = "dynamic_network_architectures"
pytest.importorskip(LIBRARY, reason="nnU-Net's networks are not installed")
FACTORY = "ranp.adapters.nnunet:network"


def settings(dims: int = 2, kind: str = "PlainConvUNet", **kwargs: Any) -> dict[str, Any]:
    made = nnunet_plans.architecture(dims, kind)
    return {
        "network_class_name": made["network_class_name"], "arch_kwargs": {**made["arch_kwargs"], **kwargs},
        "requires_import": made["_kw_requires_import"], "input_channels": 1, "num_classes": 3,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"])
@pytest.mark.parametrize("deep", [True, False])
def test_it_is_what_nnunet_builds(kind: str, deep: bool) -> None:
    built = pytest.importorskip(
        "nnunetv2.utilities.get_network_from_plans", reason="nnU-Net is not installed", exc_type=ImportError
    )
    given = settings(kind=kind)
    torch.manual_seed(0)
    theirs = built.get_network_from_plans(
        given["network_class_name"], given["arch_kwargs"], given["requires_import"], 1, 3, deep_supervision=deep
    )
    torch.manual_seed(0)
    ours = network(**given, deep_supervision=deep)
    assert type(ours) is type(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_class_that_has_moved_is_found_by_its_name() -> None:
    given = settings(kind="ResidualEncoderUNet")
    given["network_class_name"] = f"{LIBRARY}.architectures.residual_unet.ResidualEncoderUNet"
    assert type(network(**given)).__name__ == "ResidualEncoderUNet"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network_class_name": f"{LIBRARY}.architectures.unet.PlainConvUNets"}, "did you mean 'PlainConvUNet'?"),
        ({"network_class_name": "os.system"}, "no network class 'os.system'"),
        ({"network_class_name": "torch.nn.Linear"}, "no network class 'torch.nn.Linear'"),
    ],
)
def test_unknown_classes_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="plans: no network class") as error:
        network(**{**settings(), **change})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"norm_op": "torch.nn.modules.instancenorm.InstanceNorm7d"}, "norm_op 'torch.nn.modules.instancenorm"),
        ({"norm_op": "builtins.eval"}, "expected a class of torch.nn or of"),
        ({"norm_op": "torch.nn.init.xavier_normal_"}, "has no such class"),
        ({"n_stagess": 3}, "arch_kwargs 'n_stagess': PlainConvUNet takes no such argument; did you mean 'n_stages'?"),
    ],
)
def test_unknown_parts_and_arguments_are_refused(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        network(**settings(**kwargs))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_run_names_may_be_built_and_nothing_else() -> None:
    check_trusted(FACTORY)
    assert isinstance(resolve(FACTORY, settings(), trusted=False), nn.Module)
    with pytest.raises(UsageError, match="never make ranp build this network"):
        resolve("ranp.adapters.nnunet:slim_network", {}, trusted=False)
    with pytest.raises(UsageError, match="no network class"):
        resolve(FACTORY, {**settings(), "network_class_name": "subprocess.Popen"}, trusted=False)


def test_channels_and_classes_may_be_others(tmp_path: Path) -> None:
    from ranp.models.request import read_request

    path = nnunet_plans.write(tmp_path)
    request = read_request(f"nnunet:{path}#2d", in_channels=4, classes=5, size="32")
    assert request.shapes == ((2, 4, 32, 32),)
    outputs = request.network()(torch.zeros(request.shapes[0]))
    assert [tuple(each.shape) for each in outputs] == [(2, 5, 32, 32), (2, 5, 16, 16)]
    assert request.settings == {**read_word(f"{path}#2d").settings, "input_channels": 4, "num_classes": 5}


def test_a_slim_network_has_the_widths_it_is_told() -> None:
    given = settings()
    parts = {"conv_op": nn.Conv2d, "norm_op": nn.InstanceNorm2d, "dropout_op": None, "nonlin": nn.LeakyReLU}
    kwargs = {**given["arch_kwargs"], **parts}
    first, second = "encoder.stages.0.0.convs.0", "encoder.stages.1.0.convs.0"
    shapes = {
        f"{first}.conv.weight": [4, 1, 3, 3], f"{first}.conv.bias": [4], f"{first}.norm.weight": [4],
        f"{first}.norm.bias": [4], f"{second}.conv.weight": [10, 4, 3, 3],
        "decoder.stages.1.convs.0.conv.weight": [6, 10, 3, 3],
    }  # fmt: skip
    made = slim_network(1, 3, given["network_class_name"], shapes, deep_supervision=True, **kwargs)
    state = {name: list(tensor.shape) for name, tensor in made.state_dict().items()}
    assert {name: state[name] for name in shapes} == shapes
    convolution, norm = made.get_submodule(f"{first}.conv"), made.get_submodule(f"{first}.norm")
    assert (convolution.out_channels, norm.num_features) == (4, 4)
    image = torch.randn(1, 1, 16, 16)
    assert [tuple(each.shape) for each in made(image)] == [(1, 3, 16, 16), (1, 3, 8, 8)]
    made.decoder.deep_supervision = False  # as nnU-Net's trainer does
    assert tuple(made(image).shape) == (1, 3, 16, 16)
    assert all(torch.isfinite(each).all() for each in made.parameters())
    with pytest.raises(UsageError, match=r"shapes name encoder\.x\.weight, which"):
        slim_network(1, 3, given["network_class_name"], {"encoder.x.weight": [1]}, **kwargs)
