"""The options of the adapters' commands, each once; nothing here imports torch."""

from pathlib import Path
from typing import ClassVar, Literal

from ranp.jobs.options import (
    BatchSize,
    Channels,
    Config,
    Course,
    Cut,
    Device,
    DryRun,
    Factory,
    Files,
    Force,
    Labelled,
    Lossy,
    Patch,
    Printed,
    Seed,
    Source,
)
from ranp.options import Options, Training, option

Minimiser = Literal["trwp", "isgmr", "sgm", "mean_field", "trws", "icm"]
PairwiseName = Literal["potts", "linear", "truncated_linear", "truncated_quadratic", "cauchy", "huber"]
Edges = Literal["contrast", "canny", "none"]
Act = Literal["relu6", "relu", "none"]
Start = Literal["fresh", "inherit"]
ACTIVATIONS = ("relu", "leaky_relu", "softplus", "logsigmoid", "gelu", "silu", "sigmoid", "tanh", "arctan")
DIRECTIONS = ("4", "8", "16", "6", "18", "26")


class Fusing(Options):
    """What is fused, as a run folder keeps it."""

    group: ClassVar[str] = "network"
    a: str = option(
        ...,
        "The segmentation network, image -> logits: MODEL, or a run of `ranp prune`.",
        argument=True,
        metavar="A",
        complete="model",
    )
    b: str | None = option(
        None,
        "The superpixel network, likewise; without it SLIC is embedded.",
        argument=True,
        metavar="B",
        complete="model",
    )
    model_a: str | None = option(
        None, "Repeats the MODEL of a run A; needed for a factory of your own, which a run's files never call.",
        metavar="MODEL", complete="model",
    )  # fmt: skip
    model_b: str | None = option(None, "Likewise of a run B.", metavar="MODEL", complete="model")
    weights_a: Path | None = option(None, "Checkpoint of A: .safetensors, or a torch state dict.", metavar="FILE")
    weights_b: Path | None = option(None, "Checkpoint of B.", metavar="FILE")
    preset_a: str | None = option(None, "Preset of A, a built-in.", complete="preset")
    preset_b: str | None = option(None, "Preset of B, a built-in.", complete="preset")
    set_a: tuple[str, ...] = option((), "An argument of the factory of A; repeat it.", metavar="KEY=VALUE")
    set_b: tuple[str, ...] = option((), "An argument of the factory of B; repeat it.", metavar="KEY=VALUE")
    in_channels: int | None = option(None, "Channels of the image.")
    classes: int | None = option(None, "Classes of A, a built-in.")
    input: str | None = option(None, "Size of the image A is tried on: 64, 128x160, 16x112x112.", metavar="SIZE")


class Stack(Options):
    """What stands between A's logits and the mean over superpixels."""

    group: ClassVar[str] = "superpixels"
    interval: int | None = option(
        None, "Pixels between the grid cells that B scores.", shown="16, none if B returns maps"
    )
    segments: int = option(500, "SLIC superpixels per image.")
    compactness: float = option(0.1, "SLIC's weight of positions.")
    activation: str | None = option(None, "Between the stack's layers: relu, gelu, tanh, ...", complete=ACTIVATIONS)
    widths: str | None = option(None, "Hidden widths of the stack, between commas: 64,64.")
    count: int | None = option(None, "Given superpixel maps hold labels below this number.")
    ignore: int | None = option(None, "Superpixel label of pixels that keep their logits.")


class Fused(Fusing, Stack, Seed):
    """What a fused run's config.yaml holds."""


class Fuse(Fused, Device, Config, DryRun, Force, Printed):
    """`ranp fuse`."""

    group: ClassVar[str] = "output"
    out: Path = option(..., "The run folder to write.", kept=False, writes="run")


class Connecting(Options):
    """The encoder, and the decoder over it."""

    group: ClassVar[str] = "network"
    encoder: str = option(
        ..., "The network whose features are joined: MODEL, or the folder of a run; what comes after its deepest "
        "feature is left out.", argument=True, metavar="ENCODER", complete="model",
    )  # fmt: skip
    preset: str | None = option(None, "A published configuration of a built-in.", complete="preset")
    weights: Path | None = option(None, "A checkpoint of ENCODER: .safetensors, or a torch state dict.", metavar="FILE")
    at: tuple[str, ...] = option(
        (), "A module of ENCODER whose output is a feature; repeat it.", metavar="PATH",
        shown="the last feature at each stride",
    )  # fmt: skip
    width: int = option(64, "Channels of each stage of the decoder.", ge=1)
    act: Act = option("relu6", "Before each convolution: {choices}.")


class Searching(Options):
    """How connections are searched."""

    group: ClassVar[str] = "choice"
    mask: Path | None = option(
        None, "A run of `ranp connect`, or its connectivity.json: take its connections, matched by the strides of the "
        "features, and search nothing.", metavar="RUN",
    )  # fmt: skip
    strength: float = option(0.01, "Factor of the sparse loss.", ge=0)
    alpha: float | None = option(
        None, "Mean of a stage's gates, in [0, 1], that the sparse loss wants.", shown="2 / inputs, at most 0.5",
        gt=0, lt=1,
    )  # fmt: skip
    threshold: float = option(0.001, "Gates up to this share of their range go.", ge=0, lt=1)
    noise: float = option(0.1, "Standard deviation of what is added to gates in training.", ge=0)
    keep_equal: bool = option(False, "Keep stages with equal inputs apart.")
    keep_subsets: bool = option(False, "Keep stages whose inputs and users are among those of another.")
    encoder_rate: float = option(1.0, "Factor of the learning rate of ENCODER; published is 0.1, pretrained.", ge=0)
    gate_rate: float = option(1.0, "Factor of the learning rate of the gates.", gt=0)
    decoder_init: Start = option("fresh", "Weights of the decoder that is kept: {choices} (those of the search).")


class Connect(
    Connecting, Factory, Channels, Source, Files, Labelled, Patch, BatchSize, Cut, Lossy, Searching, Training, Course,
    Seed, Device, Config, DryRun, Force, Printed,
):  # fmt: skip
    """`ranp connect`."""

    group: ClassVar[str] = "output"
    out: Path = option(..., "The run folder to write.", writes="run")


class Transform(Channels, Factory, Seed, Config, DryRun, Force, Printed):
    """`ranp transform`."""

    group: ClassVar[str] = "network"
    model: str = option(
        ..., "The network whose strides become dilations: MODEL, or the folder of a run.", argument=True,
        metavar="MODEL", complete="model",
    )  # fmt: skip
    preset: str | None = option(None, "A published configuration of a built-in.", complete="preset")
    weights: Path | None = option(None, "A checkpoint of MODEL: .safetensors, or a torch state dict.", metavar="FILE")
    output_stride: str = option(
        "8", "The largest stride that features keep: 8, or 4x8x8 for each dimension.", metavar="STRIDE"
    )
    input: str | None = option(
        None, "Size of the image both networks are compared on: 64, 128x160, 16x112x112.", metavar="SIZE"
    )
    out: Path = option(..., "The run folder to write.", writes="run")


class Refining(Options):
    """How labels are refined."""

    group: ClassVar[str] = "choice"
    method: Minimiser = option("trwp", "{choices}.")
    strength: float = option(1.0, "Factor of the pairwise costs.", ge=0)
    pairwise: PairwiseName = option("potts", "{choices}.")
    scale: float | None = option(None, "Truncation or scale of the pairwise function.", gt=0)
    directions: int | None = option(
        None, "4, 8, 16 for images; 6, 18, 26 for volumes.", shown="4 or 6", complete=DIRECTIONS
    )
    iterations: int = option(5, "How many iterations.", ge=1)
    rho: float = option(0.5, "TRWP's factor.", gt=0, le=1)
    edges: Edges = option("contrast", "How --image weighs the edges: {choices}.")


class Refine(Refining, Device, Config, DryRun, Force, Printed):
    """`ranp refine`."""

    group: ClassVar[str] = "data"
    logits: Path = option(
        ..., ".npy or .npz (channels first), or .nii, .nii.gz (channels last).", argument=True, metavar="LOGITS"
    )
    out: Path = option(..., "The refined labels: .npy, .npz, .nii or .nii.gz.", metavar="FILE", writes="labels")
    image: Path | None = option(None, "The image whose edges the labels should follow.", metavar="FILE")
    labels: Path | None = option(None, "The true labels, to measure before and after.", metavar="FILE")
    probabilities: bool = option(False, "LOGITS holds probabilities.")
    picture: Path | None = option(
        None, "Draw the slice that changed most, before and after (.png, .pdf, .svg).", metavar="FILE", writes="picture"
    )
