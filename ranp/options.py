"""Options as data: a field is an option's name, type, range, default, help and group, and nothing else repeats them.

The command line, `--config`, a run's config.yaml, the documentation and the checks of the library all read the fields.
A group is a class; a command's options are a class made of groups, and a new option is one line in its group:

    class Shared(Options):
        group: ClassVar[str] = "choice"
        align: int = option(1, "Round widths up to a multiple of this.", ge=1)

The groups that the library's own functions take stand here; those of commands stand beside their jobs. Nothing here
imports torch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.fields import FieldInfo

from ranp.errors import UsageError, listed, named, nearest

Method = Literal["mpmg", "mnmg", "mnmg-paper", "snip", "taylor", "l1", "fpgm", "bn-scale"]
DATA_FREE: tuple[Method, ...] = ("l1", "fpgm", "bn-scale")
"""The methods that look at the weights alone."""
Reduce = Literal["sum", "mean", "max"]
Rule = Literal["global", "layerwise", "random", "snip"]
Weighting = Literal["layer", "none"]
Resource = Literal["flops", "memory"]
Coupling = Literal["paper", "sum", "mean", "max"]
DeadNorms = Literal["one", "keep"]
Init = Literal["glorot", "orthogonal", "keep"]
NamedLoss = Literal["ce", "ce-dice", "bce", "bce-dice", "stereo", "mse", "l1"]
Supervision = Literal["equal", "nnunet"]
Intensity = Literal["auto", "zscore", "ct", "none"]
Pad = Literal["constant", "reflect"]
Augmentation = Literal["none", "light", "nnunet"]
Convention = Literal["standard", "paper"]
Recipe = Literal["default", "nnunet", "shapenet", "brats", "ucf101", "sceneflow"]
Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["constant", "step", "exponential", "poly", "cosine"]
Amp = Literal["off", "bf16", "fp16"]


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    shown: str | None = None,
    complete: str | tuple[str, ...] | None = None,
    argument: bool = False,
    kept: bool = True,
    writes: str | None = None,
    **limits: Any,
) -> Any:
    """Return a field of an option.

    Args:
        default: its value where it is not given; `...` where it has to be.
        help: one line; `{choices}` stands for the words it takes.
        flag: its name on the command line, where that is not the field's.
        metavar: what stands for its value in the help.
        shown: the default in words, where it is more than a value.
        complete: what the shell completes its value from: "model", "preset", or words; a Literal's it takes anyway.
        argument: whether it is given by its place.
        kept: whether a run's config.yaml keeps it.
        writes: the kind of what is written there, of `files.KINDS`, or "run"; None for an option that names no output.
        limits: of pydantic: ge, gt, le, lt.
    """
    known: dict[str, Any] = {
        "flag": flag,
        "metavar": metavar,
        "shown": shown,
        "complete": complete,
        "argument": argument,
        "kept": kept,
        "writes": writes,
    }
    return Field(default, description=help, json_schema_extra=known, **limits)


class Options(BaseModel):
    """What every set of options is: fields made by `option`, in groups."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )
    group: ClassVar[str] = ""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Check values and return the options.

        Raises:
            UsageError: the first mistake: a name it does not know, a value out of its range; the nearest is given.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise UsageError(_words(cls, error)) from None

    def to_config(self) -> dict[str, Any]:
        """Return plain values for config.yaml, without what was left out."""
        kept = {each.name for each in listing(type(self)) if each.known["kept"]}
        values = self.model_dump(mode="json", include=kept)
        return {key: value for key, value in values.items() if value is not None and value not in ([], {}, "")}

    def only(self, group: type["Options"]) -> dict[str, Any]:
        """Return the values of a group's fields, by name."""
        return {name: getattr(self, name) for name in group.model_fields}


class Listed(NamedTuple):
    """An option of a class: its name, field and group, and what `option` was told of it."""

    name: str
    field: FieldInfo
    group: str

    @property
    def known(self) -> dict[str, Any]:
        """What `option` was told."""
        assert isinstance(self.field.json_schema_extra, dict)
        return self.field.json_schema_extra

    @property
    def flag(self) -> str:
        """How the command line calls it: `--min-width`, or MODEL where it goes by its place."""
        if self.known["argument"]:
            return str(self.known["metavar"] or self.name.upper())
        return str(self.known["flag"] or f"--{self.name.replace('_', '-')}")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it takes, if it takes only some."""
        return choices(self.field.annotation)

    @property
    def offered(self) -> tuple[str, ...]:
        """The words that the shell completes it from: all it takes, or the usual ones."""
        usual = self.known["complete"]
        return usual if isinstance(usual, tuple) else self.choices

    @property
    def help(self) -> str:
        """Its help, with the words it takes."""
        return str(self.field.description).format(choices=listed(self.choices))


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the words of a Literal, also one among other types."""
    if getattr(annotation, "__origin__", None) is Literal:
        return tuple(map(str, get_args(annotation)))
    return tuple(word for part in get_args(annotation) for word in choices(part))


def listing(options: type[Options]) -> list[Listed]:
    """Return the options of a class in order: those of its groups as they stand in its head, then its own."""
    return list({each.name: each for each in _listing(options)}.values())


def _listing(options: type[Options]) -> Iterator[Listed]:
    for base in options.__bases__:
        if issubclass(base, Options):
            yield from _listing(base)
    own = vars(options).get("__annotations__", {})
    for name, field in options.model_fields.items():
        if name in own:
            yield Listed(name, field, options.group)


def _words(options: type[Options], error: ValidationError) -> str:
    """Say the first mistake as who made it writes the option."""
    first = error.errors()[0]
    name, kind, context = str(first["loc"][0]) if first["loc"] else "", str(first["type"]), first.get("ctx", {})
    listed_options = {each.name: each for each in listing(options)}
    if kind == "extra_forbidden":
        return f"{named(name)}: there is no such option{nearest(name, listed_options)}"
    if kind == "value_error":  # a check of ours, which says it all
        return str(context["error"])
    each = listed_options[name]
    if kind == "missing":
        return f"{named(name, flag=each.flag)} is missing: {each.help[0].lower()}{each.help[1:].rstrip('.')}"
    if kind == "literal_error":
        known = each.choices
        expected = f"expected {listed(known)}{nearest(str(first['input']), known)}"
    else:
        expected = _expected(kind, each.field, str(first["msg"]))
    return f"{named(name, first['input'], flag=each.flag)}: {expected}"


def _expected(kind: str, field: FieldInfo, message: str) -> str:
    limits = {
        key: getattr(part, key) for part in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(part, key)
    }
    if kind.startswith(("int", "float")) or kind in (
        "greater_than_equal",
        "greater_than",
        "less_than_equal",
        "less_than",
    ):
        number = "a whole number" if "int" in str(field.annotation) else "a number"
        if kind.endswith(("_parsing", "_type", "_from_float")):
            return f"expected {number}"
        if {"ge", "lt"} <= set(limits) and number == "a number":
            return f"expected a share in [{limits['ge']:g}, {limits['lt']:g})"
        if {"ge", "lt"} <= set(limits):
            return f"expected {number} from {limits['ge']} to {limits['lt'] - 1}"
        bounds = {"ge": "of at least", "gt": "above", "le": "up to", "lt": "below"}
        words = " and ".join(f"{bounds[key]} {value:g}" for key, value in limits.items())
        return f"expected {number} {words}".rstrip()
    if kind == "finite_number":
        return "expected a finite number"
    return message[0].lower() + message[1:]


def read_pairs(pairs: Any, option: str = "settings", flag: str | None = "--set") -> Any:
    """Read `key=value` pairs; values are YAML. A mapping stays as it is.

    >>> read_pairs(["channels=[16, 32]", "norm=batch", "dropout=0.1"])
    {'channels': [16, 32], 'norm': 'batch', 'dropout': 0.1}

    Raises:
        UsageError: no pair, a key given twice, or a value that is not plain YAML.
    """
    if isinstance(pairs, Mapping) or not isinstance(pairs, Iterable):
        return pairs
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = str(pair).partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"{named(option, str(pair), flag=flag)}: expected key=value")
        if key in values:
            raise UsageError(f"{named(option, str(pair), flag=flag)}: {key} is given twice")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{named(option, str(pair), flag=flag)}: the value is not plain YAML ({reason})") from None
    return values


Pairs = Annotated[dict[str, Any], BeforeValidator(read_pairs)]
"""The type of an option that is given as `key=value`, again and again."""
DataPairs = Annotated[dict[str, Any], BeforeValidator(partial(read_pairs, option="data_settings", flag="--set-data"))]
"""The same, for data."""
LossPairs = Annotated[dict[str, Any], BeforeValidator(partial(read_pairs, option="loss_settings", flag="--set-loss"))]
"""The same, for a loss."""


_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def read_bytes(text: str, option_name: str) -> int:
    """Read an amount of memory.

    Args:
        text: a number and a unit: 11GiB, 800 MB.
        option_name: that it was given to, in Python.

    Raises:
        UsageError: no positive number, or no such unit; the nearest is given.

    >>> read_bytes("1.5KiB", "fit"), read_bytes("2 GB", "fit")
    (1536, 2000000000)
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([A-Za-z]*)", text.strip())
    units = {unit.lower(): count for unit, count in _BYTES.items()}
    count = int(float(match[1]) * units.get(match[2].lower(), 0)) if match else 0
    if count < 1:
        hint = nearest(match[2], _BYTES) if match and match[2] else ""
        raise UsageError(f"{named(option_name, text)}: expected bytes with their unit, such as 11GiB or 800MB{hint}")
    return count


def is_path(loss: str) -> bool:
    """Whether a loss is named by where it stands: `package.module.Class`, `package.module:name` or `file.py:name`."""
    return "." in loss or ":" in loss


def loss_word(loss: Any) -> Any:
    """Return a loss that is given by a known name or a path.

    Raises:
        UsageError: it is neither; the nearest name is given.
    """
    known = get_args(NamedLoss)
    if loss is None or loss in known or (isinstance(loss, str) and is_path(loss)):
        return loss
    said = f"expected {', '.join(known)}, package.module.Class or file.py:function{nearest(str(loss), known)}"
    raise UsageError(f"{named('loss', loss)}: {said}")


def _several(given: Any) -> Any:
    """Read an option that is given again and again, which was given once or stands for nothing."""
    return (given,) if isinstance(given, str) else () if given is None else given


def _once(given: tuple[str, ...]) -> Any:
    return given[0] if len(given) == 1 else list(given)


Words = Annotated[tuple[str, ...], BeforeValidator(_several), PlainSerializer(_once)]
"""The type of an option that is given again and again and mostly once; files keep one word as a word."""
Loss = Annotated[NamedLoss | str | None, BeforeValidator(loss_word)]
"""The type of an option that names a loss."""


class Scoring(Options):
    """How neurons are scored: what `importance` takes."""

    group: ClassVar[str] = "choice"
    method: Method | None = option(None, "{choices}.", shown="mpmg; snip with --rule snip")
    reduce: Reduce = option("sum", "From elements to a neuron: {choices}.")
    dead_norms: DeadNorms = option("one", "Norms whose weight is zero: score with it at one, or keep it.")


class Ranking(Options):
    """Who is ranked with whom, and by what."""

    group: ClassVar[str] = "choice"
    rule: Rule = option("global", "{choices}.")
    weighting: Weighting = option("layer", "layer (Eq. 5.9), or none: the paper's vanilla.")
    reweight: Resource | None = option(None, "Favour layers that use little: {choices}.")


class Shared(Options):
    """What every way of choosing shares."""

    group: ClassVar[str] = "choice"
    strength: float | None = option(None, "lambda of --reweight.", shown="the preset's, or the number of layers", ge=0)
    coupling: Coupling = option("paper", "How tied layers agree: {choices}.")
    min_width: int = option(1, "Units that every group keeps at least.", ge=1)
    align: int = option(1, "Round widths up to a multiple of this.", ge=1)


class Sparsity(Options):
    """How much goes."""

    group: ClassVar[str] = "choice"
    sparsity: float | None = option(None, "Share of the neurons to remove, in [0, 1).", ge=0, lt=1)


class Selection(Ranking, Sparsity, Shared):
    """How units are chosen: what `select` takes."""

    max_sparsity: bool = option(False, "Remove as many as can be.")
    allow_less: bool = option(False, "Take what can go where it is much less than was asked for.")
    published_transposed: bool = option(
        False, "Rank transposed convolutions by their inputs, keep their outputs, and count them as published."
    )

    def check(self, method: str | None = None, seed: int = 0) -> None:
        """Refuse options that do not go together.

        Args:
            method: the scores are by; None where it is not known.
            seed: of the random rule.

        Raises:
            UsageError: the first that don't.
        """
        if (self.sparsity is None) == (not self.max_sparsity):
            raise UsageError(f"give either {named('sparsity')} or {named('max_sparsity')}")
        if self.rule == "snip" and method not in (None, "snip"):
            said = f"{named('rule', 'snip')} ranks weight elements: it needs {named('method', 'snip')}, not {method}"
            raise UsageError(said)
        if self.rule == "random" and not 0 <= seed < 2**32:
            said = f"{named('rule', 'random')} draws with a seed from 0 to {2**32 - 1}"
            raise UsageError(f"{named('seed', seed)}: {said}")
        if self.reweight and self.rule != "global":
            said = f"ranks all layers together; {named('rule', self.rule)} does not"
            raise UsageError(f"{named('reweight', self.reweight)} {said}")


class Optimizing(Options):
    """How a step of a training is taken."""

    group: ClassVar[str] = "training"
    optimizer: Optimizer | None = option(None, "{choices}.", shown="the recipe's")
    momentum: float | None = option(None, "Of sgd, which is Nesterov's.", shown="the recipe's", ge=0, lt=1)
    amsgrad: bool | None = option(None, "Of adam and adamw.", shown="the recipe's")
    accumulate: int = option(1, "Batches whose gradients make one step.", ge=1)
    amp: Amp = option("off", "Autocast: {choices}.")


class Training(Optimizing):
    """How a network is trained: what `train_` takes."""

    steps: int | None = option(None, "Steps of the optimizer.", shown="by --epochs", ge=1)
    epochs: int | None = option(None, "Passes over the training cases, in the place of --steps.", ge=1)
    recipe: Recipe = option("default", "What the options below are where they are not given: {choices}.")
    lr: float | None = option(None, "Largest learning rate.", shown="the recipe's", gt=0)
    weight_decay: float | None = option(None, "Weight decay.", shown="the recipe's", ge=0)
    schedule: Schedule | None = option(None, "Of the learning rate: {choices}.", shown="the recipe's")
    warmup: float | None = option(None, "Share of the steps that the rate rises in.", shown="the recipe's", ge=0, lt=1)
    milestones: tuple[int, ...] = option(
        (), "Epochs at which `step` multiplies by --gamma; repeat it.", shown="the recipe's"
    )
    gamma: float | None = option(
        None, "Factor of `step` at its milestones, of `exponential` an epoch; exponent of `poly`.",
        shown="the recipe's", gt=0,
    )  # fmt: skip
    clip: float | None = option(None, "Largest norm of the gradient; 0 for any.", shown="the recipe's", ge=0)
    ema: float = option(0.0, "Decay of an average of the weights, which is then what is kept; 0 for none.", ge=0, lt=1)
    channels_last: bool = option(False, "Keep activations channels last.")
    compile: bool = option(False, "Run torch.compile on the network.")
    sync_bn: bool = option(False, "Let batch norms see the whole batch, of all processes; only on GPUs.")
