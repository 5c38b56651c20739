"""The state of a training in one file, whole or absent: tensors, and what is no tensor as JSON in the file's header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ranp.errors import UsageError
from ranp.files import whole_file

_TENSOR = "<tensor>"


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of tensors and plain values.

    Raises:
        UsageError: the folder can't be written, or the disk is full; what was there before stays.
    """
    tensors: dict[str, Tensor] = {}
    plain = _taken_apart(state, "", tensors)
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(plain)})


def read_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises:
        UsageError: no such file, or a damaged one.
    """
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            plain = json.loads(file.metadata()["state"])
            whole: dict[str, Any] = _put_together(plain, "", file)
            return whole
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from None


def _taken_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return _TENSOR
    if isinstance(value, Mapping):
        # JSON has no numbers as keys, which the state of an optimizer has: pairs keep them
        return {"pairs": [[key, _taken_apart(part, f"{name}/{key}", tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [_taken_apart(part, f"{name}/{place}", tensors) for place, part in enumerate(value)]
    return value


def _put_together(value: Any, name: str, file: Any) -> Any:
    if value == _TENSOR:
        return file.get_tensor(name)
    if isinstance(value, dict):
        return {key: _put_together(part, f"{name}/{key}", file) for key, part in value["pairs"]}
    if isinstance(value, list):
        return [_put_together(part, f"{name}/{place}", file) for place, part in enumerate(value)]
    return value
