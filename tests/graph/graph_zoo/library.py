"""MONAI's networks and our built-ins, as small as they come."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graph_zoo.case import add
from ranp import models


def _monai(name: str, *args: Any, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI's own deprecations
            from monai.networks import nets

            return getattr(nets, name)(*args, **settings)

    return build


VOLUME, IMAGE = ((1, 1, 16, 16, 16),), ((1, 1, 32, 32),)
UNET: dict[str, Any] = {"in_channels": 1, "out_channels": 3, "channels": (4, 8, 16), "strides": (2, 2)}
add("monai.UNet", _monai("UNet", spatial_dims=3, num_res_units=2, **UNET), VOLUME)
add("monai.UNet-batch", _monai("UNet", spatial_dims=2, norm="batch", **UNET), IMAGE)
for _up in ("deconv", "pixelshuffle", "nontrainable"):
    add(f"monai.BasicUNet-{_up}", _monai("BasicUNet", 2, 1, 2, (4, 4, 8, 8, 16, 4), upsample=_up), IMAGE)
    add(
        f"monai.SegResNet-{_up}",
        _monai("SegResNet", 3, 8, 1, 2, blocks_down=(1, 2), blocks_up=(1,), upsample_mode=_up),
        VOLUME,
    )
add(  # shuffles a map of 1 x 1, and pads what comes of it
    "monai.BasicUNet-pixelshuffle-small",
    _monai("BasicUNet", 2, 1, 2, (4, 4, 8, 8, 16, 4), norm="batch", upsample="pixelshuffle"),
    ((2, 1, 16, 16),),
)
add("monai.BasicUNetPlusPlus", _monai("BasicUNetPlusPlus", 2, 1, 2, (4, 4, 8, 8, 16, 4), deep_supervision=True), IMAGE)
add("monai.AttentionUnet", _monai("AttentionUnet", 3, 1, 2, channels=(4, 8, 16), strides=(2, 2)), VOLUME)
add("monai.DenseNet", _monai("DenseNet", 2, 1, 3, 8, 4, (2, 3, 2)), IMAGE)
add(
    "monai.ResNet-bottleneck",
    _monai("ResNet", "bottleneck", [1, 1, 1, 1], [4, 8, 8, 16], 3, 1, num_classes=3),
    ((2, 1, 16, 16, 16),),
)
add(
    "monai.ResNet-A",
    _monai("ResNet", "basic", [1, 1, 1, 1], [4, 8, 8, 16], 3, 1, shortcut_type="A", num_classes=3),
    ((2, 1, 16, 16, 16),),
)
add(
    "monai.EfficientNet",
    _monai("EfficientNetBN", "efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=3),
    ((2, 1, 32, 32),),
)
add(
    "monai.VNet",
    _monai("VNet", spatial_dims=3, in_channels=1, out_channels=2),
    ((2, 1, 16, 16, 16),),
    frozen=0.02,
    wide=True,
)
add(
    "monai.SENet",
    _monai("SENet", 2, 1, "se_bottleneck", [1, 1, 1, 1], 1, 16, num_classes=2, inplanes=8),
    ((2, 1, 32, 32),),
    wide=True,
)
add(
    "monai.SEResNeXt",
    _monai("SENet", 2, 1, "se_resnetxt_bottleneck", [1, 1, 1, 1], 32, 16, num_classes=2, inplanes=8),
    ((2, 1, 32, 32),),
    wide=True,
)
add("monai.HighResNet", _monai("HighResNet", 3, 1, 2), VOLUME, frozen=0.12)  # pads channels by numbers
add(
    "monai.MedNeXt",
    _monai("MedNeXt", 3, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1, 1), blocks_bottleneck=1),
    VOLUME,
)
add("monai.SegResNetDS", _monai("SegResNetDS", 3, 4, 1, 2, blocks_down=(1, 1, 1), dsdepth=2), VOLUME)
add(
    "monai.SegResNetVAE",
    _monai(
        "SegResNetVAE",
        (16, 16, 16),
        8,
        spatial_dims=3,
        init_filters=8,
        in_channels=1,
        out_channels=2,
        blocks_down=(1, 1),
        blocks_up=(1,),
    ),
    VOLUME,
)
add(
    "monai.DynUNet",
    _monai(
        "DynUNet",
        3,
        1,
        2,
        [3, 3, 3],
        [1, 2, 2],
        [2, 2],
        filters=[4, 8, 16],
        deep_supervision=True,
        deep_supr_num=1,
        res_block=True,
    ),
    VOLUME,
)
add(
    "monai.AHNet",
    _monai(
        "AHNet",
        layers=(1, 1, 1, 1),
        spatial_dims=3,
        psp_block_num=0,
        in_channels=1,
        out_channels=2,
        upsample_mode="trilinear",
    ),
    ((2, 1, 32, 32, 32),),
    wide=True,
)
add(
    "monai.FlexibleUNet",
    _monai("FlexibleUNet", 1, 2, "efficientnet-b0", spatial_dims=2, decoder_channels=(16, 12, 8, 8, 4)),
    ((2, 1, 32, 32),),
)
add("monai.RegUNet", _monai("RegUNet", 3, 2, 4, 2), ((1, 2, 16, 16, 16),))
add("monai.LocalNet", _monai("LocalNet", 3, 2, 4, (0, 1, 2), out_channels=3), ((1, 2, 16, 16, 16),))
add("monai.VoxelMorphUNet", _monai("VoxelMorphUNet", 3, 2, 4, (8, 8, 8, 8, 8, 8), (4, 4)), ((1, 2, 16, 16, 16),))
add(
    "monai.QuickNAT",
    _monai("Quicknat", num_classes=3, num_channels=1, num_filters=8, se_block="CSE"),
    ((1, 1, 32, 32),),
)
add("monai.AutoEncoder", _monai("AutoEncoder", 2, 1, 1, (4, 8), (2, 2)), IMAGE)
add("monai.VarAutoEncoder", _monai("VarAutoEncoder", 2, (1, 32, 32), 1, 4, (4, 8), (2, 2)), IMAGE)
add("monai.GlobalNet", _monai("GlobalNet", [16, 16], 2, 2, 4, 2), ((1, 2, 16, 16),), frozen=0.1, trains=False)
add(  # casts to float32 where it looks codes up, which stay
    "monai.VQVAE",
    _monai("VQVAE", 2, 1, 1, (8, 8), 1, (8, 8), num_embeddings=8, embedding_dim=4, ddp_sync=False,
           downsample_parameters=((2, 4, 1, 1),) * 2, upsample_parameters=((2, 4, 1, 1, 0),) * 2),
    IMAGE,
    frozen=0.2,
    trains=False,
)  # fmt: skip
add("monai.DiNTS", lambda: _dints(), ((1, 1, 32, 32, 32),))
add("monai.UNETR", _monai("UNETR", 1, 2, (16, 16, 16), 4, 24, 32, 2), VOLUME, frozen=0.6)
add(
    "monai.SwinUNETR",
    _monai(
        "SwinUNETR", 1, 2, feature_size=12, spatial_dims=2, depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2), window_size=4
    ),
    ((1, 1, 64, 64),),
    frozen=0.6,
)
add(
    "monai.ViT",
    _monai("ViT", 1, (16, 16), 8, 24, 32, 2, 2, spatial_dims=2, classification=True),
    ((1, 1, 16, 16),),
    frozen=0.65,
)
add("monai.Discriminator", _monai("Discriminator", (1, 16, 16), (4, 8), (2, 2)), ((2, 1, 16, 16),))
add("monai.Regressor", _monai("Regressor", (1, 16, 16), (2,), (4, 8), (2, 2)), ((2, 1, 16, 16),))
add(  # group norms over concatenations of unequal widths: few plans remove anything of its first convolution
    "monai.DiffusionModelUNet",
    _monai("DiffusionModelUNet", 2, 1, 1, (1, 1), (8, 16), (False, True), 4, resblock_updown=True, num_head_channels=4),
    {"x": (1, 1, 8, 8), "timesteps": torch.tensor([3])},
    frozen=0.45,
)
add("monai.PatchDiscriminator", _monai("PatchDiscriminator", 2, 4, 1, 1, 2), ((1, 1, 32, 32),))


def _dints() -> nn.Module:
    from monai.networks.nets import DiNTS, TopologyInstance

    space = TopologyInstance(channel_mul=0.2, num_blocks=4, num_depths=3, use_downsample=True)
    return DiNTS(space, 1, 2, spatial_dims=3)


BUILT_INS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "colourisation": ({"width": 2, "classes": 3}, (16, 16)),
    "context": ({"width": 2, "hidden": 8, "classes": 3}, (16, 17)),
    "context large": ({"width": 2, "hidden": 8, "classes": 2, "kind": "large"}, (8, 8)),
    "deconvnet": ({"width": 2, "hidden": 8, "classes": 3, "bottleneck": 2}, (65, 64)),
    "deconvnet 1d": ({"width": 2, "hidden": 8, "classes": 3, "bottleneck": 2, "spatial_dims": 1}, (65,)),
    "deeplab": ({"width": 4, "classes": 3}, (33, 32)),
    "eigen-fergus": ({"width": 4, "hidden": 8, "coarse": (2, 3)}, (32, 48)),
    "fcn16s 1d": ({"width": 4, "hidden": 8, "classes": 3, "spatial_dims": 1}, (33,)),
    "fcn32s 1d": ({"width": 4, "hidden": 8, "classes": 3, "spatial_dims": 1, "learned": False}, (33,)),
    "fcn8s": ({"width": 4, "hidden": 8, "classes": 3}, (33, 32)),
    "fpn": ({"width": 4, "classes": 3}, (33, 32)),
    "hypercolumns": ({"width": 2, "hidden": 8, "classes": 3}, (33, 32)),
    "hypercolumns 3d": (
        {"width": 2, "hidden": 8, "classes": 3, "grid": 2, "taps": (1, 3), "spatial_dims": 3},
        (8, 8, 9),
    ),
    "i3d": ({"width": 0.1, "classes": 3, "pool": [1, 2, 2]}, (8, 64, 64)),
    "maskrcnn": ({"width": 2, "classes": 3, "keypoints": 2}, (33, 32)),
    "mobilenetv2-3d": ({"width": 0.1, "classes": 3}, (16, 32, 32)),
    "panoptic-fpn": ({"width": 4, "classes": 3, "stuff": 4}, (33, 32)),
    "psm": ({"width": 4, "maxdisp": 16, "pools": [16, 8, 4, 2]}, (64, 64)),
    "segnet": ({"width": 4, "classes": 3}, (32, 32)),
    "segnet 3d": ({"width": 2, "classes": 3, "spatial_dims": 3}, (33, 32, 32)),
    "ubernet": ({"width": 2, "hidden": 8, "tasks": (3, 1), "scales": (1.0, 0.5)}, (64, 64)),
    "unet2d": ({"base_width": 4, "classes": 3}, (32, 32)),
    "unet3d": ({"base_width": 4, "depth": 3, "classes": 3}, (8, 8, 8)),
    "zoomout": ({"width": 2, "hidden": 8, "units": 8, "classes": 3, "side": 32, "superpixels": 2}, (32, 33)),
}
for _case, (_settings, _spatial) in BUILT_INS.items():
    _name = _case.partition(" ")[0]
    _shapes = tuple((2, *shape) for shape in models.input_shapes(_name, _settings, _spatial))
    add(_case, lambda name=_name, settings=_settings: models.build(name, **settings), _shapes)
add(  # with superpixels of their own and all that is around them
    "zoomout scenes",
    lambda: models.build("zoomout", width=2, hidden=8, units=8, classes=3, side=32, superpixels=2, scenes=True),
    ((2, 3, 32, 32), torch.randint(4, (2, 32, 32), generator=torch.Generator().manual_seed(0))),
)
