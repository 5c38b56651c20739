"""Names that shell completion offers, without importing the networks; a test compares them with the registry."""

import typer

BUILT_INS: dict[str, tuple[str, ...]] = {
    "colourisation": (),
    "context": (),
    "deconvnet": (),
    "deeplab": (),
    "eigen-fergus": (),
    "fcn16s": (),
    "fcn32s": (),
    "fcn8s": (),
    "fpn": (),
    "hypercolumns": (),
    "i3d": ("ucf101",),
    "maskrcnn": (),
    "mobilenetv2-3d": ("ucf101",),
    "panoptic-fpn": (),
    "psm": ("sceneflow",),
    "segnet": (),
    "ubernet": (),
    "unet2d": (),
    "unet3d": ("shapenet-15", "shapenet-23", "brats-15"),
    "zoomout": (),
}
"""Built-in networks and their presets."""


def complete_model(incomplete: str) -> list[str]:
    """Return the built-ins that begin with what was typed; files and modules are the shell's to complete."""
    return [name for name in BUILT_INS if name.startswith(incomplete)]


def complete_preset(context: typer.Context, incomplete: str) -> list[str]:
    """Return the presets of the MODEL that was typed, or of all built-ins."""
    typed = (context.params.get("model"), *context.args)  # before an option's value is typed, MODEL is unparsed
    model = next((word for word in typed if word), None)
    known = BUILT_INS.get(model, ()) if model else [name for names in BUILT_INS.values() for name in names]
    return [name for name in dict.fromkeys(known) if name.startswith(incomplete)]
