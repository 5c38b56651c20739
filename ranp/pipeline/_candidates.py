"""Candidates of a search as words: a rule with its number, and what else a choice takes.

uniform              narrowing by hand
profile:1.25         one width for each resolution, each coarser one 1.25 times as wide
RANP-f:5             reweighted by FLOPs, lambda 5; RANP-f alone takes the default, and lambda 0 is `weighted`
weighted+greedy      a solver
weighted+taylor+8    another criterion, and at least 8 units (or a share, 10%) in every group
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from ranp.errors import UsageError, listed, named, nearest
from ranp.options import Method, Selection, Solver, width_word
from ranp.pipeline._compare import METHODS

RULES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {**METHODS, "isomorphic": {"rule": "isomorphic"}, "RANP-l": {"reweight": "latency"}}
)
"""What a candidate begins with, and the options of `select` that it means: the methods of `compare` and two more."""
NUMBERS = MappingProxyType({"profile": "growth", **dict.fromkeys(("RANP-f", "RANP-m", "RANP-l"), "strength")})
"""The rules that take a number, and the option that it is."""
UNIFORM = "uniform"
CANDIDATES = (
    UNIFORM, "profile", "profile:1.25", "profile:1.5", "layer-wise", "isomorphic", "vanilla", "weighted", "RANP-f:5",
    "RANP-f", "RANP-m", "weighted+greedy", "weighted+8",
)  # fmt: skip
"""What a search tries unless it is told what."""
_SIMPLE = (UNIFORM, "profile")  # the simplest first; all others are equally simple


@dataclass(frozen=True)
class Candidate:
    """A way to choose units.

    Args:
        name: its word, spelled in one way.
        options: of `select`, beside the goal.
        method: of the scores; None for that of the search.
        simplicity: 0 for uniform narrowing, 1 for profiles, 2 for all else.
    """

    name: str
    options: Mapping[str, Any]
    method: str | None
    simplicity: int


def candidate(word: str) -> Candidate:
    """Read the word of a candidate.

    >>> candidate("ranp-F:5").name, dict(candidate("ranp-F:5").options)
    ('RANP-f:5', {'reweight': 'flops', 'strength': 5.0})
    >>> read = candidate("profile:1.0+l1+10 %")
    >>> read.name, dict(read.options), read.method, read.simplicity
    ('profile+l1+10%', {'rule': 'profile', 'min_width': '10%'}, 'l1', 1)

    Raises:
        UsageError: no such rule, a part that is none, or parts that do not go together.
    """
    said = named("candidates", word)
    head, *parts = (part.strip() for part in word.split("+"))
    rule, colon, number = head.partition(":")
    known = {name.lower(): name for name in RULES}
    if rule.lower() not in known:
        raise UsageError(f"{said}: expected one of {listed(RULES)}{nearest(rule.lower(), known)}")
    name = known[rule.lower()]
    simplicity = _SIMPLE.index(name) if name in _SIMPLE else len(_SIMPLE)
    options, method = dict(RULES[name]), None
    if colon:
        options |= _numbered(said, name, number)
        name += f":{float(number):g}" if set(options) != set(RULES[name]) else ""
    for part in parts:
        if part in get_args(Solver):
            options["solver"] = part
        elif part in get_args(Method):
            method = part
        else:
            try:
                options["min_width"] = part = str(width_word(part))
            except UsageError:
                words = listed((*get_args(Solver), *get_args(Method)))
                expected = f"expected a solver, a criterion or a least width after +: {words}, 8 or 10%"
                raise UsageError(f"{said}: {expected}{nearest(part, get_args(Solver) + get_args(Method))}") from None
        name += f"+{part}"
    try:
        Selection.read({**options, "flops": "100%"}).check(method)
    except UsageError as error:
        raise UsageError(f"{said}: {error}") from None
    return Candidate(name, MappingProxyType(options), method, simplicity)


def _numbered(said: str, rule: str, number: str) -> dict[str, float]:
    """Return the option that the number of a rule is; none where it is what it would be without."""
    if rule not in NUMBERS:
        raise UsageError(f"{said}: {rule} takes no number; {listed(NUMBERS)} do")
    try:
        value = float(number)
        default = Selection.model_fields[NUMBERS[rule]].get_default()
        return {} if value == default else {NUMBERS[rule]: value}
    except ValueError:
        raise UsageError(f"{said}: expected a number after the colon, such as {rule}:1.5") from None


def candidates(words: str | Iterable[str] = CANDIDATES) -> list[Candidate]:
    """Read the words of candidates, the simpler first; uniform narrowing is always among them.

    Args:
        words: one each, or all in one with commas between.

    >>> [each.name for each in candidates("weighted,profile:1,WEIGHTED")]
    ['uniform', 'profile', 'weighted']

    Raises:
        UsageError: as `candidate`.
    """
    split = words.split(",") if isinstance(words, str) else words
    read = [candidate(word) for word in (UNIFORM, *split)]
    return sorted({each.name: each for each in read}.values(), key=lambda each: each.simplicity)
