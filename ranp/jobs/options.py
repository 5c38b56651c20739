"""The options of every command, each once; how they look and what they may be is said by `ranp.options`.

Nothing here imports torch: `ranp --help` is made from these classes.
"""

from pathlib import Path
from typing import ClassVar, Literal

from ranp.options import (
    Convention,
    Data,
    Init,
    Loss,
    Options,
    Pairs,
    Scoring,
    Selection,
    Shared,
    Sparsity,
    option,
)


class Config(Options):
    """A file of options."""

    group: ClassVar[str] = "general"
    config: Path | None = option(None, "A YAML file of option names and values; the command line wins.", kept=False)


class Printed(Options):
    """How results and errors are printed; every command has these."""

    group: ClassVar[str] = "general"
    debug: bool = option(False, "Show tracebacks.", kept=False)
    quiet: bool = option(False, "Show neither bars nor the lines of steps on stderr.", kept=False)
    as_json: bool = option(
        False, "Print one JSON object on stdout, everything else on stderr.", flag="--json", kept=False
    )


class Force(Options):
    """What may be replaced."""

    group: ClassVar[str] = "output"
    force: bool = option(False, "Replace an existing output.", kept=False)


class DryRun(Options):
    """A trial."""

    group: ClassVar[str] = "output"
    dry_run: bool = option(False, "Check everything, say what would be done, write nothing.", kept=False)


class Seed(Options):
    """Randomness."""

    group: ClassVar[str] = "general"
    seed: int = option(0, "Seed of every random draw; the same seed gives the same files.", ge=0, lt=2**64)


class Device(Options):
    """Where to run."""

    group: ClassVar[str] = "general"
    device: str = option("cpu", "Where to run: cpu, cuda, cuda:1.", complete=("cpu", "cuda"))


class Factory(Options):
    """The settings of the factory that makes a network."""

    group: ClassVar[str] = "network"
    settings: Pairs = option({}, "An argument of the factory, in YAML; repeat it.", flag="--set", metavar="KEY=VALUE")


class Channels(Options):
    """Short ways for two settings that most networks have."""

    group: ClassVar[str] = "network"
    in_channels: int | None = option(None, "Channels of the image; on a built-in short for --set.")
    classes: int | None = option(None, "Classes of the output; on a built-in short for --set.")


class Model(Options):
    """The network."""

    group: ClassVar[str] = "network"
    model: str = option(
        ..., "A built-in (see `ranp models`), package.module:Factory, file.py:factory, or the folder of a fused run.",
        argument=True, metavar="MODEL", complete="model",
    )  # fmt: skip
    preset: str | None = option(None, "A published configuration of a built-in.", complete="preset")


class Network(Model, Factory, Channels):
    """The network, and what its factory is given."""


class Size(Options):
    """The size of the input."""

    group: ClassVar[str] = "network"
    input: str | None = option(None, "Input size: 64 is a cube, 16x112x112 otherwise.", metavar="SIZE")


class Full(Options):
    """The full network of a run that is only looked at."""

    group: ClassVar[str] = "network"
    full: str | None = option(
        None, "Where MODEL is a run folder: its full network, if ranp asks for it.", flag="--model", metavar="MODEL",
        complete="model",
    )  # fmt: skip


class RunModel(Options):
    """The full network of a run that is worked on."""

    group: ClassVar[str] = "network"
    model: str | None = option(
        None, "Repeats the run's MODEL; needed for a factory of your own, which a run's files never make ranp call.",
        metavar="MODEL", complete="model",
    )  # fmt: skip


class Run(Options):
    """The run folder that is worked on."""

    group: ClassVar[str] = "network"
    run: Path = option(..., "A run folder.", argument=True, metavar="RUN")


class Weights(Options):
    """Weights that the user brings."""

    group: ClassVar[str] = "network"
    weights: Path | None = option(
        None, "A checkpoint of the network, of a run that of its slim one: .safetensors, or a torch state dict.",
        metavar="FILE",
    )  # fmt: skip


class CostSize(Options):
    """The size costs are counted at."""

    group: ClassVar[str] = "network"
    input: str | None = option(None, "Size the costs are counted at; by default that of --patch.", metavar="SIZE")


class Files(Options):
    """The user's files."""

    group: ClassVar[str] = "data"
    images: tuple[Path, ...] = option((), "A NIfTI image; repeat it, one for each case.", metavar="FILE")
    labels: tuple[Path, ...] = option((), "Its labels; repeat it, in the order of --images.", metavar="FILE")


class Source(Options):
    """Where data comes from."""

    group: ClassVar[str] = "data"
    data: Data = option("phantom", "What to score on: {choices}; phantoms are generated.")


class Batches(Options):
    """How data is drawn."""

    group: ClassVar[str] = "data"
    patch: str | None = option(
        None, "Size the network is scored at: 64 is a cube, 16x112x112 otherwise.", metavar="SIZE"
    )
    batches: int = option(8, "How many batches to score on.", ge=1)
    batch_size: int = option(1, "Samples in a batch.", ge=1)


class Outputs(Options):
    """Which outputs must keep their shape."""

    group: ClassVar[str] = "choice"
    outputs: tuple[int, ...] = option(
        (), "Place of an output that must keep its shape (-1: the last), where others are features; repeat it.",
        metavar="PLACE", shown="all",
    )  # fmt: skip


class Start(Outputs):
    """What the network is scored with."""

    group: ClassVar[str] = "choice"
    freeze: tuple[str, ...] = option(
        (), "Modules whose channels stay, such as 'encoder.*'; repeat it.", metavar="PATTERN"
    )
    init: Init | None = option(
        None, "Weights to score with: {choices}.", shown="glorot for a built-in without --weights, else keep"
    )
    loss: Loss | None = option(None, "{choices}.", shown="the network's own, else ce; bce for one channel")


class Scored(Network, CostSize, Weights, Source, Files, Batches, Scoring, Start, Seed, Device):
    """A network, data, and how it is scored on them."""


class Proved(Options):
    """How the slim network is proved."""

    group: ClassVar[str] = "choice"
    verify_input: str | None = option(
        None, "Size slim and masked are compared at.", metavar="SIZE", shown="the smallest that takes the same path"
    )


class Prune(Scored, Selection, Proved, Config, DryRun, Force, Printed):
    """`ranp prune`."""

    group: ClassVar[str] = "output"
    out: Path | None = option(None, "The run folder to write.", shown="runs/MODEL", writes="run")


class Compare(Scored, Sparsity, Shared, Config, DryRun, Force, Printed):
    """`ranp compare`."""

    group: ClassVar[str] = "choice"
    max_sparsity_of: str | None = option(
        None, "Take the largest sparsity of random, layer-wise, SNIP, vanilla, weighted, RANP-m or RANP-f.",
        metavar="METHOD", shown="RANP-f, without --sparsity",
        complete=("random", "layer-wise", "SNIP", "vanilla", "weighted", "RANP-m", "RANP-f"),
    )  # fmt: skip
    convention: Convention = option("standard", "Figures of the table: {choices}.")
    peers: bool = option(False, "Prune with Torch-Pruning at the same ratio too.")
    out: Path | None = option(
        None, "Write the table as JSON; `ranp report` shows RUN/compare.json.", metavar="FILE", writes="table"
    )


class Verify(Run, RunModel, Weights, Factory, Proved, Seed, Printed):
    """`ranp verify`."""

    inputs: int = option(2, "Random inputs to compare on.", ge=1)


class Transfer(Run, RunModel, Factory, Channels, Files, Proved, Seed, Config, DryRun, Force, Printed):
    """`ranp transfer`."""

    group: ClassVar[str] = "output"
    out: Path = option(..., "The run folder to write.", writes="run")
    input: str | None = option(None, "Input size, 128 or 16x112x112.", metavar="SIZE", shown="the run's")
    data: Data | None = option(None, "nifti: read channels and classes off --images and --labels.")
    keep_weights: bool = option(False, "Inherit weights where names and shapes agree.")


class Export(Run, RunModel, Weights, Seed, Config, DryRun, Force, Printed):
    """`ranp export`."""

    group: ClassVar[str] = "output"
    onnx: Path | None = option(None, "The ONNX file.", metavar="FILE", shown="RUN/slim.onnx", writes="onnx")
    torch_export: Path | None = option(
        None, "A file of torch.export (.pt2); alone, no ONNX is written.", metavar="FILE", writes="program"
    )
    opset: int = option(20, "Of the ONNX file; from 21 on group norm is one operator.")
    dynamic: bool = option(False, "Leave batch and spatial sizes free.")


class Adopt(Run, RunModel, Weights, Factory, Seed, Config, DryRun, Printed):
    """`ranp adopt`."""


class Report(Run, RunModel, Device, Config, DryRun, Force, Printed):
    """`ranp report`."""

    group: ClassVar[str] = "output"
    other: Path | None = option(None, "A second one to compare it with.", argument=True, metavar="OTHER")
    compare: Path | None = option(
        None, "What `ranp compare --out` wrote.", metavar="FILE", shown="RUN/compare.json if any"
    )
    out: Path | None = option(
        None, "The page.", metavar="FILE", shown="RUN/report.html, of two runs RUN/compare-OTHER.html", writes="page"
    )
    measure: bool = option(False, "Time a forward of the full and the slim network, and keep it in RUN.")


class Inspect(Network, Outputs, Size, Full, Config, Force, Printed):
    """`ranp inspect`."""

    group: ClassVar[str] = "output"
    module: str | None = option(None, "Only what this module (or glob) touches, in full.", metavar="NAME")
    freeze: tuple[str, ...] = option((), "Modules whose channels stay; repeat it.", metavar="PATTERN")
    dot: Path | None = option(None, "Write the coupling as graphviz text.", metavar="FILE", writes="dot")
    svg: Path | None = option(None, "Draw the coupling.", metavar="FILE", writes="svg")


class Profile(Network, Size, Full, Weights, Seed, Device, Config, Printed):
    """`ranp profile`."""

    group: ClassVar[str] = "costs"
    batch: int | None = option(None, "Samples in a batch.", shown="the preset's, else 1", ge=1)
    convention: Convention = option(
        "standard", "standard (every op, 2 FLOPs a multiply-accumulate) or paper (the published tables')."
    )
    layers: bool = option(False, "List every convolution and linear layer.")
    training: bool = option(False, "Predict the least memory a training step takes.")
    measure: bool = option(False, "Measure the time of a forward on --device.")
    cross_check: bool = option(False, "Count multiply-accumulates with fvcore too.")


class Models(Printed):
    """`ranp models`."""

    name: str | None = option(None, "One of them, in detail.", argument=True, metavar="NAME", complete="model")


class Doctor(Printed):
    """`ranp doctor`."""


class BuildKernels(Force, Printed):
    """`ranp kernels build`."""

    kind: Literal["cpu", "cuda"] = option("cpu", "The library to build: {choices}.", argument=True, metavar="KIND")
