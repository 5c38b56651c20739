"""How a folder that `ranp fuse` wrote is known: by its weights; and which factory builds its network.

The network of such a folder is made above this package, in `ranp.adapters`; here are only the names.
"""

from pathlib import Path

WEIGHTS = "fused.safetensors"
FACTORY = "ranp.adapters.fusion.runs:load"
"""MODEL of every fused run, with the folder as its setting `run`."""


def is_fused(path: Path | str) -> bool:
    """Say whether a path is a folder that `ranp fuse` wrote."""
    return Path(path, WEIGHTS).is_file()
