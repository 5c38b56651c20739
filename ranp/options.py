"""Options as data: a field is an option's name, type, range, default, help and group, and nothing else repeats them.

The command line, `--config`, a run's config.yaml, the documentation and the checks of the library all read the fields.
A group is a class; a command's options are a class made of groups, and a new option is one line in its group:

    class Shared(Options):
        group: ClassVar[str] = "choice"
        align: int = option(1, "Round widths up to a multiple of this.", ge=1)

The groups that the library's own functions take stand here; those of commands stand beside their jobs. Nothing here
imports torch.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.fields import FieldInfo

from ranp.errors import UsageError, listed, named, nearest
from ranp.figures import AMOUNTS, amount_word, percentage

Method = Literal["mpmg", "mnmg", "mnmg-paper", "snip", "taylor", "l1", "fpgm", "bn-scale"]
DATA_FREE: tuple[Method, ...] = ("l1", "fpgm", "bn-scale")
"""The methods that look at the weights alone."""
Reduce = Literal["sum", "mean", "max"]
Rule = Literal["global", "isomorphic", "layerwise", "random", "snip", "uniform", "profile", "auto"]
PATTERNS = ("uniform", "profile", "auto")
"""Rules that say how wide layers are, whatever their scores."""
Weighting = Literal["layer", "none"]
Tie = Literal["stage"]
Solver = Literal["threshold", "greedy", "exact"]
Resource = Literal["flops", "memory", "latency"]
Coupling = Literal["paper", "sum", "mean", "max"]
DeadNorms = Literal["one", "keep"]
Init = Literal["glorot", "orthogonal", "keep"]
NamedLoss = Literal["ce", "ce-dice", "bce", "bce-dice", "stereo", "mse", "l1"]
Supervision = Literal["equal", "nnunet"]
Intensity = Literal["auto", "zscore", "ct", "none"]
Pad = Literal["constant", "reflect"]
Augmentation = Literal["none", "light", "nnunet"]
Convention = Literal["standard", "paper"]
Recipe = Literal["default", "nnunet", "shapenet", "brats", "ucf101", "sceneflow", "sparsemask"]
Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["constant", "step", "exponential", "poly", "cosine"]
Amp = Literal["off", "bf16", "fp16"]
SparsitySchedule = Literal["linear", "cubic"]


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


def width_word(width: Any) -> Any:
    """Return a least width: a whole number of units, or a share of every width such as "10%".

    >>> width_word("4"), width_word("10 %"), width_word(2)
    (4, '10%', 2)

    Raises:
        UsageError: it is neither.
    """
    if width is None or (type(width) is int and width >= 1):
        return width
    if isinstance(width, str):
        if width.strip().isdecimal() and int(width) >= 1:
            return int(width)
        if percentage(width) is not None:
            return width.replace(" ", "")
    raise UsageError(
        f"{named('min_width', width)}: expected a whole number of at least 1, or a share of every width such as 10%"
    )


Params = Annotated[str | int | None, BeforeValidator(partial(amount_word, "params"))]
Flops = Annotated[str | int | None, BeforeValidator(partial(amount_word, "flops"))]
Activations = Annotated[str | int | None, BeforeValidator(partial(amount_word, "activations"))]
InferMemory = Annotated[str | int | None, BeforeValidator(partial(amount_word, "infer_memory"))]
TrainMemory = Annotated[str | int | None, BeforeValidator(partial(amount_word, "train_memory"))]
Time = Annotated[str | int | None, BeforeValidator(partial(amount_word, "latency"))]
LeastWidth = Annotated[str | int | None, BeforeValidator(width_word)]
"""The type of an option that says how wide groups stay at least."""


class Scoring(Options):
    """How neurons are scored: what `importance` takes."""

    group: ClassVar[str] = "choice"
    method: Method | None = option(
        None, "{choices}.", shown="mpmg; snip with --rule snip; l1 for widths without --data"
    )
    reduce: Reduce = option("sum", "From elements to a neuron: {choices}.")
    dead_norms: DeadNorms = option("one", "Norms whose weight is zero: score with it at one, or keep it.")


class Ranking(Options):
    """Who is ranked with whom, and by what."""

    group: ClassVar[str] = "choice"
    rule: Rule | None = option(
        None,
        "{choices}. auto: profile for a U-Net, uniform for all other networks.",
        shown="auto for a limit, of weights that are not trained; global for all else",
    )
    weighting: Weighting = option("layer", "layer (Eq. 5.9), or none: the paper's vanilla.")
    reweight: Resource | None = option(None, "Favour layers that use little: {choices}.")
    growth: float = option(
        1.0, "Of --rule profile: widths of each coarser resolution by those of the one before, from 1 to 2.", ge=1, le=2
    )


class Shared(Options):
    """What every way of choosing shares."""

    group: ClassVar[str] = "choice"
    strength: float | None = option(None, "lambda of --reweight.", shown="the preset's, or the number of layers", ge=0)
    coupling: Coupling = option("paper", "How tied layers agree: {choices}.")
    min_width: LeastWidth = option(
        None, "Units that every group keeps at least, or their share of its width such as 10%. From 2 on, and for a "
        "limit, a floor that the others are ranked above; at 1 a group that would lose all ends the sparsity.",
        shown="1; 4 for a limit", metavar="WIDTH",
    )  # fmt: skip
    align: int = option(1, "Round widths up to a multiple of this.", ge=1)
    tie: Tie | None = option(None, "stage: groups of one resolution are equally wide, as constructors take widths.")


class Sparsity(Options):
    """How much goes."""

    group: ClassVar[str] = "choice"
    sparsity: float | None = option(None, "Share of the neurons to remove, in [0, 1).", ge=0, lt=1)


class Budget(Options):
    """What the slim network may cost, in the place of a sparsity; all that are given hold."""

    group: ClassVar[str] = "choice"
    params: Params = option(
        None, "Most parameters: 12M, or a share of the full network's such as 10%.", metavar="LIMIT"
    )
    flops: Flops = option(None, "Most FLOPs of a forward: 3.5G, or 10%.", metavar="LIMIT")
    activations: Activations = option(
        None, "Most bytes of the activations that a forward makes: 200MiB, or 10%.", metavar="LIMIT"
    )
    infer_memory: InferMemory = option(
        None, "Most bytes alive at once in a forward, weights included: 200MiB, or 10%.", metavar="LIMIT"
    )
    train_memory: TrainMemory = option(
        None, "Most bytes alive at once in a training step, as `ranp profile --training` predicts: 11GiB, or 10%.",
        metavar="LIMIT",
    )  # fmt: skip
    latency: Time = option(None, "Longest time of a forward, measured on --device: 5ms, or 10%.", metavar="LIMIT")

    @property
    def limits(self) -> dict[str, str]:
        """The limits that are given, by name."""
        given = {name: getattr(self, name) for name in AMOUNTS}
        return {name: str(amount) for name, amount in given.items() if amount is not None}


class Solved(Options):
    """How a choice under limits is found."""

    group: ClassVar[str] = "choice"
    solver: Solver = option(
        "threshold",
        "Under limits: {choices}. threshold cuts the rule's ranking; greedy and exact weigh scores by cost.",
    )


class Selection(Ranking, Sparsity, Budget, Solved, Shared):
    """How units are chosen: what `select` takes."""

    max_sparsity: bool = option(False, "Remove as many as can be.")
    allow_less: bool = option(False, "Take what can go where it is much less than was asked for.")
    published_transposed: bool = option(
        False, "Rank transposed convolutions by their inputs, keep their outputs, and count them as published."
    )

    def ruled(self, *, trained: bool = False) -> Self:
        """Return the options with the rule that they ask for where they name none.

        Under a limit those are widths as they learnt best at one cost (docs/evidence.md), unless something is asked for
        that ranks all layers together, or ties what a profile makes equal anyway. Nothing is known of weights that were
        trained.
        """
        if self.rule is not None:
            return self
        ranks = self.reweight or self.published_transposed or self.solver != "threshold"
        ranks = ranks or self.weighting != "layer" or self.coupling != "paper" or self.tie is not None
        pattern = "auto" if self.growth == 1 else "profile"
        return self.model_copy(update={"rule": pattern if self.limits and not ranks and not trained else "global"})

    def check(self, method: str | None = None, seed: int = 0) -> None:
        """Refuse options that do not go together, once they have a rule.

        Args:
            method: the scores are by; None where it is not known.
            seed: of the random rule.

        Raises:
            UsageError: the first that don't.
        """
        rule = self.ruled().rule
        goals = [self.sparsity is not None, self.max_sparsity, bool(self.limits)]
        if sum(goals) != 1:
            either = f"give either {named('sparsity')} or {named('max_sparsity')}"
            raise UsageError(f"{either}, or limits: {listed(map(named, AMOUNTS), 'and')}")
        if self.solver != "threshold" and not self.limits:
            raise UsageError(f"{named('solver', self.solver)}: needs a limit: {listed(map(named, AMOUNTS))}")
        if self.solver != "threshold" and rule in PATTERNS:
            said = f"finds widths, which {named('rule', rule)} gives; leave one of them out"
            raise UsageError(f"{named('solver', self.solver)}: {said}")
        if rule == "snip" and method not in (None, "snip"):
            said = f"{named('rule', 'snip')} ranks weight elements: it needs {named('method', 'snip')}, not {method}"
            raise UsageError(said)
        if rule == "random" and not 0 <= seed < 2**32:
            said = f"{named('rule', 'random')} draws with a seed from 0 to {2**32 - 1}"
            raise UsageError(f"{named('seed', seed)}: {said}")
        if self.reweight and rule != "global":
            said = f"ranks all layers together; {named('rule', rule)} does not"
            raise UsageError(f"{named('reweight', self.reweight)} {said}")
        if self.growth != 1 and rule != "profile":
            said = f"is of {named('rule', 'profile')}, not of {named('rule', rule)}"
            raise UsageError(f"{named('growth', self.growth)} {said}")
        if rule in PATTERNS and self.published_transposed:
            said = f"gives widths; {named('published_transposed')} is of the rules that rank"
            raise UsageError(f"{named('rule', rule)} {said}")


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
