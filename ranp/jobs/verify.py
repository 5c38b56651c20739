"""Prove a run folder again: rebuild the full network, put the slim weights into it, and compare the two."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranp.errors import CheckFailed, UsageError
from ranp.models.resolve import check_trusted
from ranp.runs import HASHED, Run, read
from ranp.surgery import Verification, verify


def prove(
    path: Path | str,
    *,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    inputs: int = 2,
    seed: int = 0,
) -> tuple[Run, Verification]:
    """Check the hashes of a run's plan and weights, then compare its slim network with the masked full one.

    Args:
        path: of the run folder.
        model: MODEL, repeated by the user; needed where it is neither a built-in nor a network of MONAI.
        settings: the factory's arguments, where they are not those of the run.
        inputs: how many random inputs to compare on.
        seed: of the inputs and of the values that fill what was removed.

    Returns:
        The run and the comparison, passed or not.

    Raises:
        CheckFailed: a file's hash is not the one stored when it was written.
        UsageError: no run folder, or the network can't be built from it.
    """
    if inputs < 1:
        raise UsageError(f"--inputs {inputs}: expected at least 1")
    run = read(path)
    if model is None and isinstance(named := run.config.get("model"), str):
        check_trusted(named)  # the user's to repeat, whatever else was changed
    try:
        run.check_hashes()
    except UsageError as error:
        raise CheckFailed(str(error)) from None
    full = run.full(model, settings)
    checked = verify(full, run.slim(full), run.plan, run.plan.example_inputs(), inputs=inputs, seed=seed)
    return run, checked


def report(run: Run, checked: Verification) -> dict[str, Any]:
    """Return what `ranp verify` prints, in plain values."""
    return {
        "run": str(run.path),
        "model": run.config.get("model"),
        "hashes": {name: run.report["hashes"][name] for name in HASHED},
        **checked.to_dict(),
    }
