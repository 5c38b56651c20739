"""The reverse of a cost: the largest number, of samples or of voxels a side, whose cost stays within a limit."""

from collections.abc import Callable

from ranp.errors import InfeasibleError


def largest(
    cost_of: Callable[[int], int], limit: float, *, power: int = 1, least: int = 1, most: int = 2**16
) -> tuple[int, int]:
    """Return the largest number whose cost is within a limit, and its cost.

    Args:
        cost_of: a number; it never falls. It is asked for few numbers: it may take long.
        limit: in the unit of the cost.
        power: the cost grows about as this power of the number, which makes the search short; any number is right.
        least: no smaller number is tried, such as one a network does not run at.
        most: no larger number is tried.

    Raises:
        InfeasibleError: the cost of the least is above the limit; it is the closest value.

    >>> largest(lambda number: 100 + 7 * number, 1000)
    (128, 996)
    """
    costs = {least: cost_of(least)}
    if costs[least] > limit:
        raise InfeasibleError(f"{costs[least]} is the least, and the limit is {limit}", costs[least])
    low, high = least, most + 1  # the first fits, the second is not known to
    while high - low > 1:
        guess = _guess(costs, limit, power) if len(costs) > 1 else least + 1
        if high <= most:  # close in on both ends: the guess itself, or the number beside it that settles it
            guess = low + 1 if guess <= low else high - 1 if guess >= high else guess
        number = min(max(guess, low + 1), high - 1)
        costs[number] = cost_of(number)
        if costs[number] <= limit:
            low = number
        else:
            high = number
    return low, costs[low]


def _guess(costs: dict[int, int], limit: float, power: int) -> int:
    """Return where a curve a + b * number ** power through the two costs nearest the limit meets it."""
    (first, before), (second, after) = sorted(costs.items(), key=lambda pair: abs(pair[1] - limit))[:2]
    slope = (after - before) / (second**power - first**power)
    if slope <= 0:
        return 2 * max(costs)
    return int(max(first**power + (limit - before) / slope, 1.0) ** (1 / power) + 1e-9)
