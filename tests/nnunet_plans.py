"""Plans as nnU-Net 2.8 writes them, of small networks; data sets in its raw layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np

DATASET = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "a": 1, "b": 2},
    "numTraining": 6,
    "file_ending": ".nii.gz",
}


def architecture(dims: int = 3, kind: str = "PlainConvUNet", features: tuple[int, ...] = (6, 10, 12)) -> dict[str, Any]:
    stages = len(features)
    kwargs: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": list(features),
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [[1] * dims, *[[2] * dims] * (stages - 1)],
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    kwargs["n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"] = [1, *[2] * (stages - 1)]
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(dims: int = 3, kind: str = "PlainConvUNet", **more: Any) -> dict[str, Any]:
    return {
        "data_identifier": f"nnUNetPlans_{dims}d",
        "batch_size": 2,
        "patch_size": [16] * dims,
        "median_image_size_in_voxels": [20.0, 24.0, 24.0][-dims:],
        "spacing": [1.2, 1.1, 1.0][-dims:],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture(dims, kind),
        **more,
    }


def plans(**configurations: Any) -> dict[str, Any]:
    return {
        "dataset_name": "Dataset999_Toy",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations,
        "foreground_intensity_properties_per_channel": {},
    }


def write(folder: Path, made: dict[str, Any] | None = None, dataset: dict[str, Any] | None = None) -> Path:
    """Write plans and dataset.json; by default of three configurations."""
    folder.mkdir(parents=True, exist_ok=True)
    three = {"3d_fullres": configuration(), "2d": configuration(2), "resenc": configuration(kind="ResidualEncoderUNet")}
    (folder / "dataset.json").write_text(json.dumps(dataset or DATASET))
    path = folder / "nnUNetPlans.json"
    path.write_text(json.dumps(made or plans(**three)))
    return path


def write_raw(folder: Path, cases: int = 6) -> Path:
    """Write cases of nnU-Net's raw layout, no two sides of equal length, and one to predict.

    Each side is a multiple of 4, so that the patch that nnU-Net plans is no larger.
    """
    import nibabel

    generator = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([1.0, 1.1, 1.2, 1.0])
    for number in range(cases):
        labels = np.zeros((24, 28, 20), np.uint8)
        labels[4:14, 5:15, 5:12] = 1
        labels[15:20, 10:18, 8:16] = 2
        image = (100 * labels + generator.normal(0, 20, labels.shape)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / "imagesTr" / f"c{number}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "labelsTr" / f"c{number}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image, affine), folder / "imagesTs" / "new_0000.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({**DATASET, "numTraining": cases}))
    return folder
