"""Other ways for a built-in network to upsample: what its setting `upsampling` names.

Who brings one announces it as an entry point of the group "ranp.upsampling", a function from a network and an example
image to the network that upsamples so. Nothing here names them.
"""

import importlib.metadata

from torch import Tensor, nn

from ranp.errors import UsageError, nearest, setting

GROUP = "ranp.upsampling"


def upsampled(network: nn.Module, method: str | None, image: Tensor) -> nn.Module:
    """Return the network that upsamples by a method; for None the network itself.

    Args:
        network: a built-in.
        method: the name of an entry point.
        image: an input of it, of which shape and dtype matter.

    Raises:
        UsageError: no such method; the nearest is named.
    """
    if method is None:
        return network
    known = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if method not in known:
        choices = f"one of {', '.join(sorted(known))}" if known else "none: no package announces one"
        raise UsageError(f"{setting('upsampling', method)}: expected {choices}{nearest(method, known)}")
    swapped: nn.Module = known[method].load()(network, image)
    return swapped
