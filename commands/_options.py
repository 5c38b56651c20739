"""Options that several commands share, so that each has one spelling, one help text and one default."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ranp.commands._words import complete_model, complete_preset
from ranp.errors import UsageError, nearest
from ranp.files import read_yaml, yaml_line


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the keys of a YAML file the defaults of the command's options; unknown keys are refused by name."""
    if path is None:
        return None
    with _said():
        context.default_map = {**(context.default_map or {}), **_defaults(context, path)}
    return path


@contextmanager
def _said() -> Iterator[None]:
    """Say a mistake that is found while options are still being read."""
    try:
        yield
    except UsageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def _check_seed(seed: int) -> int:
    """Refuse a seed that torch's generators do not take."""
    with _said():
        if not 0 <= seed < 2**64:
            raise UsageError(f"--seed {seed}: expected a whole number from 0 to {2**64 - 1}")
    return seed


def _defaults(context: typer.Context, path: Path) -> dict[str, Any]:
    """Return the values of a config by parameter name; a key is an option's name, with hyphens or underscores."""
    known = {}
    for parameter in context.command.params:
        for word in (parameter.name or "", *parameter.opts):
            known[word.lstrip("-").replace("-", "_")] = parameter
    found = {}
    for key, value in read_yaml(path, "--config").items():
        name = key.replace("-", "_")
        if name not in known or known[name].name in ("config", "help"):
            raise UsageError(f"--config {path}: unknown key {key!r}{nearest(key, sorted(known))}")
        parameter = known[name]
        found[str(parameter.name)] = _as_typed(
            key, value, parameter.nargs == -1 or getattr(parameter, "multiple", False)
        )
    return found


def _as_typed(key: str, value: Any, several: bool) -> Any:
    """Return a value as the command line would have given it: mappings as key=value, one word as a list of one."""
    if isinstance(value, dict):
        return [f"{name}={yaml_line(each)}" for name, each in value.items()]
    if several and value is not None and not isinstance(value, list):
        return [value]
    if isinstance(value, list) and not several:
        raise UsageError(f"--config: {key}: expected one value, got a list")
    return value


# What names a network; a command adds `= None` or `= ()`. MODEL is optional where --config may give it.
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A built-in such as unet3d, package.module:Factory, file.py:factory, or the folder of a fused run.",
        autocompletion=complete_model,
    ),
]
RunModel = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="The factory, where the run's own is never called from a file.",
        autocompletion=complete_model,
    ),
]
Preset = Annotated[
    str | None, typer.Option(help="A published configuration of a built-in.", autocompletion=complete_preset)
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An argument of the factory, in YAML; repeat it.")
]
InChannels = Annotated[int | None, typer.Option(help="Channels of the image; on a built-in short for --set.")]
Classes = Annotated[int | None, typer.Option(help="Classes of the output; on a built-in short for --set.")]
Input = Annotated[str | None, typer.Option(metavar="SIZE", help="Input size: 64 is a cube, 16x112x112 otherwise.")]

Full = Annotated[
    str | None, typer.Option("--model", help="Where MODEL is a run folder: its full network, if ranp asks for it.")
]

# What names data and how a network is scored on it, for the commands that score one.
CostInput = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Size the costs are counted at; by default that of --patch.")
]
Weights = Annotated[
    Path | None, typer.Option(help="Checkpoint of the full network: .safetensors, or a torch state dict.")
]
Data = Annotated[str, typer.Option(help="What to score on: phantom (generated) or nifti.")]
Images = Annotated[list[Path] | None, typer.Option(help="A NIfTI image; repeat it, one for each case.")]
Labels = Annotated[list[Path] | None, typer.Option(help="Its labels; repeat it, in the order of --images.")]
Patch = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Size the network is scored at: 64 is a cube, 16x112x112 otherwise."),
]
Batches = Annotated[int, typer.Option(help="How many batches to score on.")]
BatchSize = Annotated[int, typer.Option(help="Samples in a batch.")]
Method = Annotated[
    str | None, typer.Option(help="mpmg, mnmg, mnmg-paper, snip or l1.", show_default="mpmg; snip with --rule snip")
]
Reduce = Annotated[str, typer.Option(help="From elements to a neuron: sum, mean or max.")]
Strength = Annotated[
    float | None,
    typer.Option(help="lambda of --reweight.", show_default="the preset's, or the number of layers"),
]
Coupling = Annotated[str, typer.Option(help="How tied layers agree: paper, sum, mean or max.")]
MinWidth = Annotated[int, typer.Option(help="Units that every group keeps at least.")]
Align = Annotated[int, typer.Option(help="Round widths up to a multiple of this.")]
Freeze = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Modules whose channels stay, such as 'encoder.*'; repeat it."),
]
Init = Annotated[
    str | None,
    typer.Option(
        help="Weights to score with: glorot, orthogonal or keep.",
        show_default="glorot for a built-in without --weights, else keep",
    ),
]
Loss = Annotated[str | None, typer.Option(help="ce, ce-dice or stereo.", show_default="the network's own, else ce")]

Seed = Annotated[
    int,
    typer.Option(help="Seed of every random draw; the same seed gives the same files.", callback=_check_seed),
]
Device = Annotated[str, typer.Option(help="Where to run: cpu, cuda, cuda:1.")]
Config = Annotated[
    Path | None,
    typer.Option(
        help="A YAML file of option names and values; the command line wins.", callback=_load_config, is_eager=True
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]


def given_model(model: str | None) -> str:
    """Return MODEL, which the command line or --config must give.

    Raises:
        UsageError: neither does.
    """
    if model is None:
        raise UsageError("MODEL is missing: a built-in (see `ranp models`), package.module:Factory or file.py:factory")
    return model
