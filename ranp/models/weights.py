"""A user's checkpoint into a network; reading it runs no code.

What people save is rarely a bare state dict: trainers keep it under a key beside optimisers and epochs, wrappers put
prefixes before its names, counters leave tensors of their own in it, `torch.nn.utils.prune` splits weights in two. The
state dict is looked for, its names are fitted to the network's, and one line says what was done; nothing is loaded
that does not fit whole.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ranp.errors import UsageError, listed, named, words_of
from ranp.modules import unwrapped

WRAPPERS = (
    "state_dict", "model_state_dict", "network_weights", "model", "net", "network", "model_state", "net_state_dict",
    "weights", "module", "params", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema",
    "model_ema_state_dict", "ema_model_state_dict", "params_ema", "checkpoint", "model_dict", "model_weights",
    "best_model", "best_model_state_dict", "best_state_dict", "generator", "netG",
)  # fmt: skip
"""Keys training scripts keep the state dict under, the likeliest first: averages come after what is trained."""
PREFIXES = ("module.", "model.", "net.", "network.", "backbone.", "ema_model.", "model_ema.", "ema.")
"""What wrappers put before the names; another word, such as a Lightning module's own, has to make every name fit."""
INSIDE = ("_orig_mod", "_forward_module", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""What wrappers of parts put anywhere into the names."""
COUNTED = ("total_ops", "total_params", "n_averaged", "num_batches_tracked")
"""Last parts of names that carry no weight: those of thop, of averaged models, and the counters of batch norms."""
_DEPTH = 4  # of wrappers in wrappers
_SHOWN = 3
_START = 64  # bytes by which a file's kind is told


@dataclass(frozen=True)
class Fit:
    """A state dict whose names are read after taking off a prefix.

    Args:
        state: the network's names, and their tensors.
        prefix: that was taken off.
        put: the first part of all the network's names, where the file has them without it.
        foreign: whether the prefix is none of a wrapper that is known.
        inside: parts that were taken out of names.
        masked: names of weights that masks were applied to.
        beside: names of tensors that do not begin with the prefix.
        left_out: other names that are known to carry no weight.
        missing: names of the network without a tensor.
        extra: names that the network does not have.
    """

    state: dict[str, Tensor]
    prefix: str
    put: str
    foreign: bool
    inside: tuple[str, ...]
    masked: tuple[str, ...]
    beside: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every name has its tensor, but for counters of batch norms, and no tensor is left over."""
        return not (self.extra or any(_last(name) != "num_batches_tracked" for name in self.missing))


def load_weights_(network: nn.Module, path: Path, option: str = "weights") -> str:
    """Load a checkpoint into a network in place.

    Args:
        network: whose weights are replaced; of a wrapper those of the network inside.
        path: `.safetensors`, or a file of `torch.save` that holds a state dict, bare or under one of the keys
            `WRAPPERS`; read with `weights_only=True`, numpy's numbers and arrays allowed. Prefixes of wrappers are
            taken off, masks of `torch.nn.utils.prune` applied, tensors that carry no weight left out.
        option: that named the file, for messages.

    Returns:
        One line: what was found in the file and what was done to it.

    Raises:
        UsageError: the file is missing, is no state dict, or does not fit the network; the first differences are named.
    """
    said = named(option, path)
    if not path.is_file():
        raise UsageError(f"{said}: {'a folder; expected a file' if path.is_dir() else 'no such file'}")
    network = unwrapped(network)
    candidates = list(_state_dicts(_read(path, said), said))
    own = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    fits = [(key, fit) for key, state, others in candidates for fit in _fits(own, state, others)]
    key, best = min(fits, key=lambda each: (not each[1].complete, len(each[1].missing) + len(each[1].extra)))
    what = f"{said}: does not fit {type(network).__name__}"
    if not best.complete:
        missing = [name for name in best.missing if _last(name) != "num_batches_tracked"]
        names = [f"{missing[0]} is missing"] if missing else []
        names += [f"{best.prefix}{best.extra[0]} is not in the network"] if best.extra else []
        raise UsageError(f"{what}: {', '.join(names)} ({len(missing) + len(best.extra)} differ)")
    rest = [(other, fit) for other, fit in fits if fit is not best and fit.complete]
    twins = [fit.prefix for other, fit in rest if other == key and fit.foreign and best.foreign]
    if twins:
        raise UsageError(f"{said}: the names under {best.prefix} and {twins[0]} fit; save the state_dict() of one")
    for name, value in best.state.items():
        counted = _last(name) in COUNTED  # averages of counts are no whole numbers
        if apart := _apart(value.round() if counted and value.is_floating_point() else value, own[name]):
            raise UsageError(f"{what}: {best.prefix}{name.removeprefix(best.put)} is {apart}")
    network.load_state_dict({**network.state_dict(), **best.state})
    return f"{path.name}: {_story(key, best, [f'{other} {fit.prefix}'.strip() for other, fit in rest])}"


def _apart(value: Tensor, own: Tensor) -> str:
    """Return what keeps a tensor from taking the place of another, and what would; "" where nothing does."""
    if value.shape != own.shape:
        return f"{tuple(value.shape)}; the network's is {tuple(own.shape)}"
    if value.is_meta:
        return "on the meta device and has no values"
    if value.is_quantized or value.layout != torch.strided:
        return f"{'quantised' if value.is_quantized else 'sparse'}; expected plain numbers"
    if value.is_floating_point() and own.is_floating_point():
        return ""
    as_own = value if value.is_complex() else value.to(own.dtype).to(value.dtype)
    if value.is_complex() != own.is_complex() or not torch.equal(as_own, value):
        return f"{_word(value)}; the network's is {_word(own)}"
    return ""


def _word(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _story(key: str, fit: Fit, others: list[str]) -> str:
    words = [f"{len(fit.state)} tensors" + (f" under {key}" if key else "")]
    stripped = [*fit.inside, *([fit.prefix.removesuffix(".")] if fit.prefix else [])]
    if stripped:
        words += [f"{listed([f'{part}.' for part in stripped], 'and')} stripped from their names"]
    words += [f"{fit.put} put before their names"] * bool(fit.put)
    words += [f"masks of {len(fit.masked)} applied"] * bool(fit.masked)
    left = sorted({_last(name) for name in fit.left_out})
    words += [f"left out {', '.join([*left, *_some(fit.beside)])}"] * bool(left or fit.beside)
    words += ["num_batches_tracked is not in it"] * bool(fit.missing)
    words += [f"not taken: {', '.join(others)}"] * bool(others)
    return ", ".join(words)


def _some(names: tuple[str, ...]) -> list[str]:
    more = len(names) - _SHOWN
    return [*names[:_SHOWN], *([f"{more} more"] if more > 0 else [])]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _fits(own: Mapping[str, Tensor], state: Mapping[str, Tensor], others: tuple[str, ...]) -> Iterator[Fit]:
    """Yield a state dict read with every prefix that it can be read with, the shortest first.

    What no wrapper that is known puts there, a Lightning module's own word say, is looked for where the names are to
    fit; last, names that all lack the first part of the network's.
    """
    inside = tuple(part for part in INSIDE if any(part in name.split(".") for name in state))
    inside = tuple(part for part in inside if not any(part in name.split(".") for name in own))
    names = {".".join(part for part in name.split(".") if part not in inside): name for name in state}
    prefixes = [""]
    for prefix in prefixes:
        deeper = (prefix + word for word in PREFIXES)
        prefixes += [longer for longer in deeper if any(name.startswith(longer) for name in names)]
    first = next(iter(own), "")
    ends = (f".{first}", f".{first}_orig")
    foreign = [f"{name.removesuffix(end)}." for name in names for end in ends if name.endswith(end)]
    shared = {name.partition(".")[0] for name in own}
    readings = [(prefix, "") for prefix in dict.fromkeys([*prefixes, *foreign])]
    readings += [("", f"{part}.") for part in shared] * (len(shared) == 1)
    for prefix, put in readings:
        under = {
            put + name.removeprefix(prefix): state[full] for name, full in names.items() if name.startswith(prefix)
        }
        beside = tuple(name for name in names if not name.startswith(prefix))
        masked = tuple(
            name for name in own if name not in under and {f"{name}_orig", f"{name}_mask"} <= under.keys() - own.keys()
        )
        for name in masked:
            under[name] = under.pop(f"{name}_orig") * under.pop(f"{name}_mask")
        rest = [name for name in under if name not in own]
        yield Fit(
            {name: value for name, value in under.items() if name in own}, prefix, put, prefix not in prefixes, inside,
            masked,
            (*(name for name in beside if _last(name) not in COUNTED), *others),
            tuple(name for name in [*rest, *beside] if _last(name) in COUNTED),
            tuple(name for name in own if name not in under),
            tuple(name for name in rest if _last(name) not in COUNTED),
        )  # fmt: skip


def _state_dicts(read: Any, subject: str) -> Iterator[tuple[str, dict[str, Tensor], tuple[str, ...]]]:
    """Yield every state dict in what was read: the keys it lies under, its tensors, the names of what is no tensor.

    The likeliest comes first.

    Raises:
        UsageError: there is none.
    """
    level, count = [("", read)], 0
    for _ in range(_DEPTH):
        for key, value in level:
            tensors = _tensors_in(value)
            if isinstance(value, Mapping) and 2 * len(tensors) > len(value):
                count += 1
                yield key, tensors, tuple(str(name) for name in value if str(name) not in tensors)
        level = [
            (f"{key}.{word}".removeprefix("."), value[word])
            for key, value in level
            if isinstance(value, Mapping)
            for word in WRAPPERS
            if isinstance(value.get(word), Mapping)
        ]
    if not count:
        holds = f", found {', '.join(map(str, [*read][:6]))}" if isinstance(read, Mapping) and read else ""
        raise UsageError(
            f"{subject}: expected a state dict (names and tensors), bare or under {listed(WRAPPERS[:5])}{holds}"
        )


def _tensors_in(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a mapping by name, numpy's arrays of numbers among them."""
    if not isinstance(value, Mapping):
        return {}
    arrays = {key: part for key, part in value.items() if isinstance(part, np.ndarray) and part.dtype.kind in "bfiu"}
    whole = {**value, **{key: torch.tensor(part) for key, part in arrays.items()}}
    return {str(key): part for key, part in whole.items() if isinstance(part, Tensor)}


def _read(path: Path, subject: str) -> Any:
    """Read a file by what it is, not by how it is called."""
    try:
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(_numpys()):
            warnings.simplefilter("ignore")  # what torch says of a foreign pickle is in the error below
            start = file.read(_START)
            if start.startswith(b"version https://git-lfs"):
                raise UsageError(f"{subject}: a pointer to a file that Git LFS holds: fetch it with `git lfs pull`")
            if start[8:9] == b"{" or (path.suffix == ".safetensors" and not start.startswith(b"PK")):
                return load_file(path)
            file.seek(0)
            return torch.load(file, "cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # what is no checkpoint fails in many ways in either reader
        raise UsageError(
            f"{subject}: not a checkpoint that can be read without running code ({_reason(error)}): "
            "save the network's state_dict()"
        ) from None


def _numpys() -> list[Any]:
    """Return what numpy's numbers and arrays are unpickled with, which trainers keep beside the weights."""
    core = getattr(np, "_core", None) or np.core
    made = [(getattr(core.multiarray, name), name) for name in ("scalar", "_reconstruct")]
    homes = ("numpy._core.multiarray", "numpy.core.multiarray")  # numpy 2 wrote the first, numpy 1 the second
    known = [(function, f"{home}.{name}") for function, name in made for home in homes]
    return [*known, np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"}]


def _reason(error: Exception) -> str:
    """Return what stopped a reader, without torch's advice to read the file unsafely."""
    text = words_of(error, 4_000)
    if "TorchScript archive" in text:
        return "a TorchScript archive, which is a program"
    if unsafe := re.search(r"(?:GLOBAL |[Uu]nsupported (?:class|global):? |but got <class ')([\w.]+\.\w+)", text):
        return f"it holds {unsafe[1]}"
    if isinstance(error, KeyError | EOFError | IndexError) or "Unsupported operand" in text:
        return "not written by torch.save"
    if "PytorchStreamReader" in text:
        return "it is cut short or damaged"
    text = text.partition("WeightsUnpickler error: ")[2] or text
    first = re.split(r"(?<=\w)[.;:]? (?=Please |Check the |In PyTorch |Re-running |This file can)", text)[0]
    first = first if len(first) <= 160 else f"{first[:160].rpartition(' ')[0]} ..."
    return f"{type(error).__name__}: {first}"
