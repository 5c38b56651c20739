import json
from pathlib import Path
from typing import Any

import nnunet_plans
import pytest

from ranp.adapters.nnunet import read_word
from ranp.errors import UsageError
from ranp.models.words import recipe_of


def test_a_configuration_says_network_patch_batch_spacing_and_axes(tmp_path: Path) -> None:
    path = nnunet_plans.write(tmp_path)
    recipe = recipe_of(f"nnunet:{path}#3d_fullres")
    assert recipe is not None
    assert recipe.shape == (1, 16, 16, 16)
    assert (recipe.batch, recipe.spacing, recipe.axes, recipe.scales) == (2, (1.2, 1.1, 1.0), (2, 1, 0), (None,))
    assert recipe.settings["input_channels"] == 1
    assert recipe.settings["num_classes"] == 3
    assert recipe_of("unet3d") is None
    assert recipe_of("monai.networks.nets:UNet") is None


def test_a_configuration_inherits_key_by_key_through_several(tmp_path: Path) -> None:
    made = nnunet_plans.plans(
        base=nnunet_plans.configuration(),
        wide={"inherits_from": "base", "patch_size": [32, 32, 32]},
        last={"inherits_from": "wide", "batch_size": 5},
    )
    recipe = read_word(f"{nnunet_plans.write(tmp_path, made)}#last")
    assert recipe.shape == (1, 32, 32, 32)
    assert recipe.batch == 5
    assert recipe.spacing == (1.2, 1.1, 1.0)


def test_axes_follow_the_transposition(tmp_path: Path) -> None:
    made = {**nnunet_plans.plans(a=nnunet_plans.configuration()), "transpose_forward": [2, 0, 1]}
    # nnU-Net reads (z, y, x), and takes its last axis first: x, z, y.
    assert read_word(f"{nnunet_plans.write(tmp_path, made)}#a").axes == (0, 2, 1)


def test_a_ct_is_scaled_by_the_foreground_of_the_plans(tmp_path: Path) -> None:
    schemes = ["CTNormalization", "ZScoreNormalization", "NoNormalization"]
    made = nnunet_plans.plans(a=nnunet_plans.configuration(normalization_schemes=schemes))
    own = {"mean": 40.0, "std": 20.0, "percentile_00_5": -50.0, "percentile_99_5": 150.0}
    made["foreground_intensity_properties_per_channel"] = {"0": own}
    scales = read_word(f"{nnunet_plans.write(tmp_path, made)}#a").scales
    assert scales[0] == {"mean": 40.0, "sd": 20.0, "low": -50.0, "high": 150.0}
    assert scales[1] is None
    assert scales[2] == {"mean": 0.0, "sd": 1.0, "low": None, "high": None}


def test_scales_that_ranp_does_not_know_are_left_to_the_options(tmp_path: Path) -> None:
    for more in ({"normalization_schemes": ["RescaleTo01Normalization"]}, {"use_mask_for_norm": [True]}):
        made = nnunet_plans.plans(a=nnunet_plans.configuration(**more))
        assert read_word(f"{nnunet_plans.write(tmp_path, made)}#a").scales == ()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ({"background": 0, "a": 1}, 2),
        ({"background": 0, "a": 1, "b": 2, "ignore": 3}, 3),
        ({"background": 0, "whole": [1, 2], "core": [2]}, 2),
    ],
)
def test_classes_are_those_of_the_network(labels: dict[str, Any], classes: int, tmp_path: Path) -> None:
    path = nnunet_plans.write(tmp_path, dataset={**nnunet_plans.DATASET, "labels": labels})
    assert read_word(f"{path}#2d").settings["num_classes"] == classes


def test_a_cascade_takes_the_labels_of_the_stage_before_as_channels(tmp_path: Path) -> None:
    cascade = {"inherits_from": "a", "previous_stage": "3d_lowres"}
    path = nnunet_plans.write(tmp_path, nnunet_plans.plans(a=nnunet_plans.configuration(), b=cascade))
    assert read_word(f"{path}#b").settings["input_channels"] == 3


V1 = {"plans_per_stage": {"0": {}}, "num_classes": 2}
OLD = {key: value for key, value in nnunet_plans.configuration().items() if key != "architecture"}
LACKING = {"network_class_name": "x", "arch_kwargs": {}}


@pytest.mark.parametrize(
    ("made", "name", "said"),
    [
        (V1, "3d_fullres", "plans of nnU-Net v1; expected those of v2"),
        ({"a": 1}, "3d_fullres", 'holds no "configurations"'),
        (nnunet_plans.plans(a={}, b={}), "", "has several configurations; expected #a or b"),
        (nnunet_plans.plans(fullres={}), "fulres", "no configuration 'fulres'; expected #fullres; did you mean 'ful"),
        (nnunet_plans.plans(a={"inherits_from": "b"}), "a", "a inherits from 'b', which is not there"),
        (nnunet_plans.plans(a={"inherits_from": "a"}), "a", "a inherits from 'a', which inherits from itself"),
        (nnunet_plans.plans(a=OLD), "a", "a has no architecture, as plans had before nnU-Net 2.5"),
        (
            nnunet_plans.plans(a=nnunet_plans.configuration(architecture=LACKING)), "a",
            "the architecture of a has no _kw_requires_import",
        ),
        (nnunet_plans.plans(a=nnunet_plans.configuration(patch_size=7)), "a", "a has the patch_size 7"),
    ],
)  # fmt: skip
def test_plans_that_are_none_are_refused_in_one_line(
    made: dict[str, Any], name: str, said: str, tmp_path: Path, typed: None
) -> None:
    path = nnunet_plans.write(tmp_path, made)
    with pytest.raises(UsageError) as error:
        read_word(f"{path}#{name}")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"MODEL nnunet:{path}#{name}")


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*plans\.json; expected nnunet:PLANS\.json#CONFIGURATION"):
        read_word(f"{tmp_path / 'plans.json'}#2d")
    with pytest.raises(UsageError, match="a pickle, as nnU-Net v1 wrote its plans"):
        read_word(f"{tmp_path / 'plans.pkl'}#2d")
    path = nnunet_plans.write(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(UsageError, match=r"no .*dataset\.json; expected it beside the plans"):
        read_word(f"{path}#2d")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {}}))
    with pytest.raises(UsageError, match='expected "channel_names" and "labels"'):
        read_word(f"{path}#2d")
