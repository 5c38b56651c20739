"""Where a network runs: a device by name, refused before any work if it can't be used."""

import torch

from ranp.errors import UsageError


def check_device(name: str) -> torch.device:
    """Return the device of that name after putting an empty tensor there.

    Raises:
        UsageError: no such device, or one that this machine or this build of torch does not have.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise UsageError(f"--device {name}: {reason}") from None
    return torch.device(name)
