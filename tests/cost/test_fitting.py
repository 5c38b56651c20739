"""The largest number within a limit, against trying them all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranp import cost
from ranp.errors import InfeasibleError


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.integers(0, 1500),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_it_is_the_one_that_trying_all_finds(rises: list[int], limit: int, power: int, least: int) -> None:
    costs = {least + place: sum(rises[: place + 1]) for place in range(len(rises))}
    fitting = [number for number, value in costs.items() if value <= limit]
    most = max(costs)
    if not fitting:
        with pytest.raises(InfeasibleError) as raised:
            cost.largest(costs.__getitem__, limit, power=power, least=least, most=most)
        assert raised.value.closest == costs[least]
        return
    found = cost.largest(costs.__getitem__, limit, power=power, least=least, most=most)
    assert found == (max(fitting), costs[max(fitting)])


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_cost_that_grows_as_said_is_asked_for_few_numbers(power: int) -> None:
    asked = []

    def cost_of(number: int) -> int:
        asked.append(number)
        return 1000 + 17 * number**power

    limit = 1000 + 17 * 640**power + 5
    assert cost.largest(cost_of, limit, power=power)[0] == 640
    assert len(asked) <= 8
