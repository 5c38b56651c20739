"""The options of every command, each once; how they look and what they may be is said by `ranp.options`.

Nothing here imports torch: `ranp --help` is made from these classes.
"""

from pathlib import Path
from typing import ClassVar, Literal

from ranp.options import (
    Augmentation,
    Budget,
    Convention,
    DataPairs,
    Init,
    Intensity,
    Loss,
    LossPairs,
    Optimizing,
    Options,
    Pad,
    Pairs,
    Ranking,
    Scoring,
    Selection,
    Shared,
    Solved,
    Sparsity,
    SparsitySchedule,
    Supervision,
    Training,
    Words,
    option,
)

Split = Literal["testing", "validation", "training", "all"]


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
        ..., "A built-in (see `ranp models`), package.module:Factory, file.py:factory, nnunet:PLANS.json#CONFIGURATION "
        "of nnU-Net, bundle:FOLDER of MONAI, or a folder that `ranp fuse`, `ranp connect` or `ranp transform` wrote.",
        argument=True, metavar="MODEL", complete="model",
    )  # fmt: skip
    preset: str | None = option(None, "A published configuration of a built-in.", complete="preset")


class Network(Model, Factory, Channels):
    """The network, and what its factory is given."""


class Size(Options):
    """The size of the input."""

    group: ClassVar[str] = "network"
    input: Words = option(
        (), "Input size: 64 is a cube, 16x112x112 otherwise; or an input of its own, "
        "[NAME=]CHANNELSxSIZE[:DTYPE[:BELOW]], such as ids=77:int64:1000; repeat it.", metavar="SIZE",
    )  # fmt: skip


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
    input: Words = option(
        (), "Size the costs are counted at; or an input of its own, "
        "[NAME=]CHANNELSxSIZE[:DTYPE[:BELOW]], such as ids=77:int64:1000; repeat it.", metavar="SIZE",
        shown="that of --patch",
    )  # fmt: skip


class Images(Options):
    """The user's images."""

    group: ClassVar[str] = "data"
    images: tuple[Path, ...] = option((), "A volume of your own; repeat it, one for each case.", metavar="FILE")


class Files(Images):
    """The user's files."""

    group: ClassVar[str] = "data"
    labels: tuple[Path, ...] = option((), "Its labels; repeat it, in the order of --images.", metavar="FILE")


class SourceName(Options):
    """Where data comes from."""

    group: ClassVar[str] = "data"
    data: str | None = option(
        None, "A generator, a path, LAYOUT:PATH, or a loader file.py:function; see `ranp data`.", metavar="SOURCE",
        shown="the files of --images, else phantom",
    )  # fmt: skip


class SourceSettings(Options):
    """How a source is opened."""

    group: ClassVar[str] = "data"
    data_settings: DataPairs = option(
        {}, "A setting of the layout or generator, or an argument of the loader, in YAML; repeat it.",
        flag="--set-data", metavar="KEY=VALUE",
    )  # fmt: skip
    keys: str = option("image,label", "Of a loader's dicts: the inputs and the target; t1+t2,seg are two inputs.")


class Source(SourceName, SourceSettings):
    """Where data comes from, and how it is opened."""


class Labelled(Options):
    """What labels mean."""

    group: ClassVar[str] = "data"
    label_map: str | None = option(None, "Which values are which class: 1=1,2=1,75-89=2,*=0; names too.", metavar="MAP")
    ignore_label: int | None = option(None, "A value that does not count.", ge=0)
    regions: str | None = option(None, "Overlapping masks of values: WT=1+2+4,TC=1+4,ET=4.", metavar="REGIONS")


class Voxels(Options):
    """How volumes are normalised."""

    group: ClassVar[str] = "data"
    intensity: Intensity = option("auto", "{choices}; auto: as the data set names its channels, else zscore.")
    spacing: str | None = option(None, "Resample to so many millimetres: 1.5x1.5x3; 0 leaves an axis.", metavar="SIZE")
    axes: str | None = option(
        None, "Take the axes of files in this order, such as zyx; the order of --patch and --spacing.", metavar="AXES",
        shown="as they lie, or as the plans of MODEL say",
    )  # fmt: skip
    scales: str | None = option(
        None, "Scale each channel, between commas, by zscore or by numbers, MEAN:SD or MEAN:SD:LOW:HIGH, between which "
        "values are clipped: zscore,40:350:-1000:1000.", metavar="SCALES",
        shown="as --intensity says, or as the plans of MODEL do",
    )  # fmt: skip


class Cut(Voxels):
    """How volumes are normalised and cut."""

    group: ClassVar[str] = "data"
    foreground: float = option(0.5, "Share of the patches centred on a labelled voxel.", ge=0, le=1)
    pad: Pad = option("constant", "Around volumes smaller than the patch: {choices}.")
    workers: int = option(0, "Processes that read ahead; the batches are the same for any number.", ge=0)


class Patch(Options):
    """The size of samples."""

    group: ClassVar[str] = "data"
    patch: str | None = option(
        None, "Size of the patches that are drawn: 64 is a cube, 16x112x112 otherwise.", metavar="SIZE"
    )


class BatchSize(Options):
    """How many samples make a batch."""

    group: ClassVar[str] = "data"
    batch_size: int | None = option(None, "Samples in a batch.", ge=1, shown="1, or as the plans of MODEL say")

    @property
    def samples(self) -> int:
        """How many: one, where neither the user nor plans say."""
        return self.batch_size or 1


class Batches(Patch, BatchSize):
    """How data is drawn."""

    group: ClassVar[str] = "data"
    batches: int = option(8, "How many batches to score on.", ge=1)


class Sliding(Options):
    """How what is larger than the patch is looked at."""

    group: ClassVar[str] = "data"
    overlap: float = option(0.5, "Share of a window that the next one covers too.", ge=0, lt=1)
    mirror: bool = option(False, "Take the mean over all mirrored forms of a window.")


class Outputs(Options):
    """Which outputs must keep their shape."""

    group: ClassVar[str] = "choice"
    outputs: tuple[int, ...] = option(
        (), "Place of an output that must keep its shape (-1: the last), where others are features; repeat it.",
        metavar="PLACE", shown="all",
    )  # fmt: skip


class Initial(Options):
    """The weights that are begun with."""

    group: ClassVar[str] = "network"
    init: Init | None = option(
        None, "Weights to begin with: {choices}.", shown="glorot for a built-in without --weights, else keep"
    )


class Lossy(Options):
    """What outputs and targets are compared by."""

    group: ClassVar[str] = "choice"
    loss: Loss = option(
        None, "{choices}; a class of MONAI, torch or another package by its path, such as monai.losses.DiceCELoss; or "
        "file.py:function of your own.", metavar="LOSS",
        shown="the network's own, else ce, to train dense outputs ce-dice; bce for one channel",
    )  # fmt: skip
    loss_settings: LossPairs = option(
        {}, "An argument of a --loss that is given by its path, in YAML; repeat it.", flag="--set-loss",
        metavar="KEY=VALUE",
    )  # fmt: skip
    deep_supervision: Supervision = option("equal", "How several outputs count in the loss: {choices} (1, 1/2, ... 0).")


class Trained(Optimizing, Lossy):
    """The training step whose memory is asked for."""

    checkpoint: Words = option(
        (), "A module, or glob, whose insides are computed again in the backward; repeat it.", metavar="NAME"
    )


class Draws(Options):
    """Initialisations that scores are averaged over."""

    group: ClassVar[str] = "choice"
    draws: int = option(
        1, "Initialisations whose scores are averaged, with the spread of widths over them; of drawn weights.", ge=1
    )


class Frozen(Options):
    """What stays."""

    group: ClassVar[str] = "choice"
    freeze: tuple[str, ...] = option(
        (), "Modules whose channels stay, such as 'encoder.*'; repeat it.", metavar="PATTERN"
    )


class Start(Outputs, Initial, Lossy, Frozen):
    """What the network is scored with."""


class Scored(
    Network, CostSize, Weights, Source, Files, Labelled, Batches, Cut, Scoring, Start, Seed, Device
):  # fmt: skip
    """A network, data, and how it is scored on them."""


class Proved(Options):
    """How the slim network is proved."""

    group: ClassVar[str] = "choice"
    verify_input: str | None = option(
        None, "Size slim and masked are compared at.", metavar="SIZE", shown="the smallest that takes the same path"
    )


class Prune(Scored, Trained, Full, Draws, Selection, Proved, Config, DryRun, Force, Printed):
    """`ranp prune`."""

    group: ClassVar[str] = "output"
    out: Path | None = option(None, "The run folder to write.", shown="runs/MODEL", writes="run")


class Suggest(Scored, Trained, Ranking, Budget, Solved, Shared, Config, Printed):
    """`ranp suggest`."""


class Compare(Scored, Trained, Sparsity, Budget, Shared, Config, DryRun, Force, Printed):
    """`ranp compare`."""

    group: ClassVar[str] = "choice"
    max_sparsity_of: str | None = option(
        None, "Take the largest sparsity of a method: random, layer-wise, SNIP, vanilla, weighted, RANP-m, RANP-f, "
        "uniform or profile.",
        metavar="METHOD", shown="RANP-f, without --sparsity or limits",
        complete=("random", "layer-wise", "SNIP", "vanilla", "weighted", "RANP-m", "RANP-f", "uniform", "profile"),
    )  # fmt: skip
    convention: Convention = option("standard", "Figures of the table: {choices}.")
    peers: bool = option(False, "Prune with Torch-Pruning at the same ratio too.")
    out: Path | None = option(
        None, "Write the table as JSON; `ranp report` shows RUN/compare.json.", metavar="FILE", writes="table"
    )


class Taught(Options):
    """A trained network that has a part in the loss."""

    group: ClassVar[str] = "training"
    teacher: str | None = option(
        None, "A trained network to learn from: a MODEL, with --teacher-weights, or a run folder.", metavar="MODEL"
    )
    teacher_weights: Path | None = option(None, "A checkpoint of the teacher.", metavar="FILE")
    teacher_strength: float = option(0.5, "Share of the teacher in the loss.", ge=0, le=1)
    temperature: float = option(4.0, "What logits are divided by, the teacher's too.", gt=0)


class Rounds(Scoring, Selection, Proved):
    """How a training prunes in between."""

    group: ClassVar[str] = "choice"
    rounds: int | None = option(
        None, "Prune and train in turn so often, to a --sparsity or limits of the full network; --steps are of each.",
        ge=1,
    )  # fmt: skip
    sparsity_schedule: SparsitySchedule = option(
        "linear", "Of --rounds: {choices}: as much each time, or most at first (Zhu and Gupta 2017)."
    )


class Validated(Options):
    """What a training is measured on, and how its samples are drawn."""

    group: ClassVar[str] = "training"
    val: str | None = option(
        None, "What is validated on, named as --data.", metavar="SOURCE",
        shown="the validation cases of --data, of what is generated other samples",
    )  # fmt: skip
    fold: str | None = option(None, "Validate on the k-th of n parts of the training cases, from 0.", metavar="K/N")
    augment: Augmentation = option("none", "Change samples at random: {choices}.")
    hold: int = option(8, "Cases that are kept in memory once they were read.", ge=1)


class Course(Validated):
    """The same of a training that is measured while it goes on."""

    val_every: int | None = option(None, "Steps between validations.", shown="ten in all", ge=1)


class Train(
    Network, Full, Weights, Source, Files, Labelled, Batches, Cut, Start, Training, Taught, Rounds, Course, Seed,
    Device, Config, DryRun, Force, Printed,
):  # fmt: skip
    """`ranp train`."""

    group: ClassVar[str] = "training"
    resume: bool = option(False, "Go on with the training in --out that was stopped.", kept=False)
    save_every: int = option(100, "Steps after which the state is kept for --resume.", ge=1)
    tensorboard: Path | None = option(
        None, "Write curves as events of TensorBoard into this folder too.", metavar="FOLDER", kept=False
    )
    out: Path = option(..., "The run folder to write.", writes="run")


class Search(
    Network, Weights, Initial, Source, Files, Labelled, Batches, Cut, Lossy, Frozen, Outputs, Scoring, Budget, Shared,
    Training, Validated, Seed, Device, Config, DryRun, Force, Printed,
):  # fmt: skip
    """`ranp search`."""

    group: ClassVar[str] = "choice"
    candidates: str | None = option(
        None, "Ways to choose, with commas between: uniform, profile:1.25, layer-wise, isomorphic, vanilla, weighted, "
        "RANP-f:5, RANP-m, RANP-l, SNIP, random; behind a + a solver, a criterion or a least width: weighted+greedy+8.",
        metavar="WORDS", shown="thirteen, of all kinds",
    )  # fmt: skip
    seeds: int = option(3, "Trainings of each candidate in the last round, with seeds from --seed on.", ge=1)
    eta: int = option(3, "So many times fewer candidates from round to round, and so many times longer.", ge=2)
    resume: bool = option(False, "Go on with the search in --out that was stopped.", kept=False)
    save_every: int = option(100, "Steps after which the state of a training is kept for --resume.", ge=1)
    out: Path = option(..., "The run folder of the winner.", writes="run")


class Verify(Run, RunModel, Weights, Factory, Proved, Seed, Printed):
    """`ranp verify`."""

    inputs: int = option(2, "Random inputs to compare on.", ge=1)


class Transfer(Run, RunModel, Factory, Channels, Source, Files, Labelled, Proved, Seed, Config, DryRun, Force, Printed):
    """`ranp transfer`."""

    group: ClassVar[str] = "output"
    out: Path = option(..., "The run folder to write.", writes="run")
    input: str | None = option(None, "Input size, 128 or 16x112x112.", metavar="SIZE", shown="the run's")
    data: str | None = option(
        None, "Read channels and classes off a path, LAYOUT:PATH, or the files of --images and --labels.",
        metavar="SOURCE",
    )  # fmt: skip
    keep_weights: bool = option(False, "Inherit weights where names and shapes agree.")


class Export(Run, RunModel, Weights, Seed, Config, DryRun, Force, Printed):
    """`ranp export`."""

    group: ClassVar[str] = "output"
    onnx: Path | None = option(None, "The ONNX file.", metavar="FILE", shown="RUN/slim.onnx", writes="onnx")
    torch_export: Path | None = option(
        None, "A file of torch.export (.pt2); alone, no ONNX is written.", metavar="FILE", writes="program"
    )
    torchscript: Path | None = option(
        None, "A TorchScript file (.ts), for programs that read nothing else; alone, no ONNX is written.",
        metavar="FILE", writes="torchscript",
    )  # fmt: skip
    tensorrt_notes: bool = option(
        False, "List the limits of TensorRT that the ONNX graph meets, as NVIDIA publishes them, without TensorRT; "
        "alone, no ONNX is written.",
    )  # fmt: skip
    opset: int = option(20, "Of the ONNX file; from 21 on group norm is one operator.")
    dynamic: bool = option(False, "Leave batch and spatial sizes free.")
    nnunet: str | None = option(
        None, "Add a configuration with the slim network to these plans of nnU-Net: PLANS.json, or "
        "PLANS.json#CONFIGURATION that it inherits from; alone, no ONNX is written.", metavar="PLANS",
    )  # fmt: skip
    nnunet_model: Path | None = option(
        None, "With --nnunet, write the folder that nnUNetv2_predict_from_modelfolder takes.", metavar="FOLDER",
        writes="nnunet",
    )  # fmt: skip
    monai_bundle: Path | None = option(
        None, "Write a bundle of MONAI with the slim network; alone, no ONNX is written.", metavar="FOLDER",
        writes="bundle",
    )  # fmt: skip
    from_bundle: Path | None = option(
        None, "With --monai-bundle, a bundle whose .json configs are taken.", metavar="FOLDER", shown="plain configs"
    )
    spend: Literal["patch", "batch"] | None = option(
        None, "With --nnunet and --memory, use what was freed: a larger {choices}, as nnU-Net's planner would."
    )
    memory: str | None = option(None, "What a training step may take, for --spend: 8GiB.", metavar="BYTES")


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


class Profile(Network, Size, Full, Weights, Trained, Seed, Device, Config, Printed):
    """`ranp profile`."""

    group: ClassVar[str] = "costs"
    batch: int | None = option(None, "Samples in a batch.", shown="the preset's, else 1", ge=1)
    convention: Convention = option(
        "standard", "standard (every op, 2 FLOPs a multiply-accumulate) or paper (the published tables')."
    )
    layers: bool = option(False, "List every convolution and linear layer.")
    training: bool = option(False, "Predict the least memory a training step takes.")
    fit: str | None = option(
        None, "Find the largest batch, and the largest input, whose training step fits into so much: 11GiB.",
        metavar="BYTES",
    )  # fmt: skip
    measure: bool = option(
        False, "Measure the time of a forward on --device; with --training, the memory of a step too."
    )
    cross_check: bool = option(False, "Count multiply-accumulates with fvcore too.")


class Bench(
    Network, Size, Full, Weights, SourceName, SourceSettings, Images, Labelled, Voxels, Sliding, Outputs, Trained, Seed,
    Device, Config, Printed,
):  # fmt: skip
    """`ranp bench`."""

    group: ClassVar[str] = "costs"
    batch: int | None = option(None, "Samples in a batch.", shown="the preset's, else 1", ge=1)
    runs: int = option(20, "Runs that are measured of each setting, after three that are not.", ge=1)
    seconds: float = option(10.0, "No further run of a setting starts after so long.", gt=0)
    threads: tuple[int, ...] = option((), "Threads of the CPU to try; repeat it.", metavar="COUNT", shown="as they are")
    compile: bool = option(False, "Try torch.compile too, which takes minutes.")
    inference_only: bool = option(False, "Measure no training steps.")
    data: str | None = option(
        None, "Files to predict a case of, as `ranp predict` does: how much of that is the network's.",
        metavar="SOURCE", shown="the files of --images, if any",
    )  # fmt: skip


class Models(Printed):
    """`ranp models`."""

    name: str | None = option(None, "One of them, in detail.", argument=True, metavar="NAME", complete="model")


class Doctor(Printed):
    """`ranp doctor`."""


class BuildKernels(Force, Printed):
    """`ranp kernels build`."""

    kind: Literal["cpu", "cuda"] = option("cpu", "The library to build: {choices}.", argument=True, metavar="KIND")


class Data(SourceSettings, Files, Patch, Seed, Config, Force, Printed):
    """`ranp data`."""

    group: ClassVar[str] = "data"
    data: str = option(
        ..., "A path, LAYOUT:PATH, nifti (the --images), a loader file.py:function, or a generator: phantom or shapes.",
        argument=True, metavar="SOURCE",
    )  # fmt: skip
    cases: int | None = option(
        None, "How many cases, or batches, to look at.", shown="all; 8 of a loader or generator", ge=1
    )
    sheet: Path | None = option(
        None, "Draw a few samples with their labels (.png, .pdf, .svg).", metavar="FILE", writes="picture"
    )


class Evaluate(
    Network, Full, Weights, Source, Files, Labelled, Voxels, Batches, Sliding, Outputs, Seed, Device, Config, Force,
    Printed,
):  # fmt: skip
    """`ranp evaluate`."""

    group: ClassVar[str] = "data"
    split: Split | None = option(
        None, "Cases to measure on: {choices}.", shown="testing, else validation; all where the data knows no splits"
    )
    tolerance: float = option(1.0, "Of the surface Dice: millimetres, or voxels where no file says their size.", ge=0)
    csv: Path | None = option(None, "Write a row for each case (and class).", metavar="FILE", writes="csv")
    sheet: Path | None = option(
        None, "Draw the best, the median and the worst case, prediction beside truth (.png, .pdf, .svg).",
        metavar="FILE", writes="picture",
    )  # fmt: skip


class Predict(
    Network, Full, Weights, SourceName, SourceSettings, Images, Labelled, Voxels, Patch, BatchSize, Sliding, Outputs,
    Device, Config, Force, Printed,
):  # fmt: skip
    """`ranp predict`."""

    group: ClassVar[str] = "output"
    out: Path = option(..., "The folder to write.", writes="predictions")
    split: Split | None = option(
        None, "Cases of --data to predict: {choices}.", shown="testing if there are any, else all"
    )
    probabilities: bool = option(False, "Write probabilities beside the labels.")
    logits: bool = option(False, "Write logits beside the labels.")
    exported: Path | None = option(
        None, "Run this exported file of the network, by onnxruntime, in the place of torch.", flag="--onnx",
        metavar="FILE",
    )  # fmt: skip
