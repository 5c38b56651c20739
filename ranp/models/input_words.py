"""The words of `--input`: a size of what a network takes anyway, or each of its inputs in full.

64, 16x112x112          a size
image=1x64x64x64        an input by its name: channels and size, without the batch
ids=77:int64:1000       77 whole numbers below 1000
3x64x64:float64         an input by its place, in float64
step=:int64             one whole number for each sample
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ranp.errors import UsageError, named, nearest
from ranp.figures import spell
from ranp.inputs import Shape

_REALS = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")
WHOLES = ("int64", "int32", "int16", "int8", "uint8", "bool")
_SPELLED = re.compile(r"(?:([A-Za-z_]\w*)=)?(\d+(?:x\d+)*)?(?::(\w+)(?::(\d+))?)?", re.ASCII)


@dataclass(frozen=True)
class InputKind:
    """What an input is beside its shape.

    Args:
        name: of the forward's argument; "" where it goes by its place.
        dtype: a word of torch, or "" for the network's own.
        below: of whole numbers, the number they are below; None where the network's embeddings say.
    """

    name: str = ""
    dtype: str = ""
    below: int | None = None


Spelled = tuple[tuple[InputKind, Shape], ...]
"""Of each input what it is, and its shape without the batch."""


def read_words(
    size: str | Sequence[int] | Sequence[str] | None, option: str = "input"
) -> tuple[str | Sequence[int] | None, Spelled]:
    """Tell a size from inputs that are said in full.

    One word without a name and a dtype is a size. All inputs have names, or none.

    >>> read_words(("64",))
    ('64', ())
    >>> read_words(("ids=77:int64:1000",))
    (None, ((InputKind(name='ids', dtype='int64', below=1000), (77,)),))

    Raises:
        UsageError: a word that says no input, an unknown dtype, a range that the dtype has not, or a name twice.
    """
    words = tuple(size) if isinstance(size, tuple | list) and size and isinstance(size[0], str) else ()
    if not words:
        return (size or None), ()  # type: ignore[return-value]  # the words are out
    if len(words) == 1 and not {"=", ":"} & {*words[0]}:
        return str(words[0]), ()
    spelled = tuple(_read_input(str(word), option) for word in words)
    names = [kind.name for kind, _ in spelled]
    if any(names) and not all(names):
        raise UsageError(
            f"{named(option, words[names.index('')])}: has no name and others have; name all inputs or none"
        )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise UsageError(f"{named(option)}: {twice} is given twice")
    return None, spelled


def _read_input(word: str, option: str) -> tuple[InputKind, Shape]:
    match = _SPELLED.fullmatch(word)
    if match is None or not (match[2] or match[3]):
        said = "expected [NAME=]CHANNELSxSIZE[:DTYPE[:BELOW]], such as image=1x64x64x64 or ids=77:int64:1000"
        raise UsageError(f"{named(option, word)}: {said}")
    name, sizes, dtype, below = match.groups()
    shape = tuple(map(int, sizes.split("x"))) if sizes else ()
    if 0 in shape:
        raise UsageError(f"{named(option, word)}: expected lengths of at least 1")
    known = _REALS + WHOLES
    if dtype and dtype not in known:
        raise UsageError(
            f"{named(option, word)}: no dtype {dtype}; expected one of {', '.join(known)}{nearest(dtype, known)}"
        )
    if below is not None:
        most = 0 if dtype in _REALS else 2 if dtype == "bool" else torch.iinfo(getattr(torch, dtype)).max
        if not 1 <= int(below) <= most:
            said = f"expected a number from 1 to {most}" if most else f"{dtype} holds no whole numbers below a number"
            raise UsageError(f"{named(option, word)}: {said}")
    return InputKind(name or "", dtype or "", None if below is None else int(below)), shape


def written(spelled: Spelled) -> str:
    """Write inputs as they were said."""
    return " ".join(
        f"{f'{kind.name}=' if kind.name else ''}{spell(shape)}{f':{kind.dtype}' if kind.dtype else ''}"
        for kind, shape in spelled
    )
