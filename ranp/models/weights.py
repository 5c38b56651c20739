"""A user's checkpoint into a network; reading it runs no code."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ranp.errors import UsageError, words_of

_WRAPPERS = ("state_dict", "model_state_dict", "network_weights", "model")  # where training scripts keep the state dict


def load_weights_(network: nn.Module, path: Path, option: str = "--weights") -> None:
    """Load a checkpoint into a network in place.

    Args:
        network: whose weights are replaced.
        path: `.safetensors`, or a file of `torch.save` that holds a state dict, also under a usual key such as
            "state_dict"; read with `weights_only=True`.
        option: how the user named the file, for messages.

    Raises:
        UsageError: the file is missing, is no state dict, or does not fit the network; the first difference is named.
    """
    if not path.is_file():
        raise UsageError(f"{option} {path}: no such file")
    state = _state(path, option)
    _check_fit(network, state, f"{option} {path}")
    network.load_state_dict(state)


def _state(path: Path, option: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a foreign pickle is in the error below
            read: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # what is no checkpoint fails in many ways in either reader
        raise UsageError(
            f"{option} {path}: not a checkpoint that can be read without running code ({_reason(error)})"
        ) from None
    for key in _WRAPPERS:
        if isinstance(read, dict) and isinstance(read.get(key), dict):
            read = read[key]
            break
    if not isinstance(read, dict) or not read or not all(isinstance(value, Tensor) for value in read.values()):
        raise UsageError(f"{option} {path}: expected a state dict (names and tensors)")
    return read


def _reason(error: Exception) -> str:
    """Return a reader's words, without torch's advice to read the file unsafely."""
    text = words_of(error, 2_000)
    refused = re.search(
        r"(?:WeightsUnpickler error: |trusted source\. )(?!Please)(.*?)(?: Please | Check the documentation|$)", text
    )
    return f"{type(error).__name__}: {(refused[1] if refused else text)[:160]}"


def _check_fit(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    own = network.state_dict()
    missing, extra = [key for key in own if key not in state], [key for key in state if key not in own]
    if missing or extra:
        names = f"{missing[0]} is missing" if missing else f"{extra[0]} is not in the network"
        raise UsageError(f"{what}: does not fit {type(network).__name__}: {names} ({len(missing) + len(extra)} differ)")
    for key, value in own.items():
        if isinstance(value, Tensor) and value.shape != state[key].shape:
            raise UsageError(
                f"{what}: {key} is {tuple(state[key].shape)}; {type(network).__name__} expects {tuple(value.shape)}"
            )
