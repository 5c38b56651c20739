"""What one op or one module call costs, before it is summed."""

from dataclasses import dataclass

from ranp.cost.polynomials import Polynomial


@dataclass(frozen=True)
class Entry:
    """The cost of one op or one call.

    Args:
        module: path of the module it belongs to.
        inputs: channels it reads.
        outputs: channels it writes.
        flops: its operations.
        elements: how many elements it newly stores.
    """

    module: str
    inputs: Polynomial
    outputs: Polynomial
    flops: Polynomial
    elements: Polynomial
