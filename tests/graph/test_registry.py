"""Every op that has a rule has a cost, and every cost an op that has it."""

from ranp.cost._standard import FLOPS
from ranp.graph.rules import RULES
from ranp.graph.tape import Kind

ATEN = {name: known for name, known in RULES.items() if "::" not in name}


def test_every_kind_of_op_has_a_cost_and_ops() -> None:
    assert set(FLOPS) == set(Kind)
    assert {known.kind for known in ATEN.values()} == set(Kind) - {Kind.OTHER}


def test_matrix_products_say_what_they_sum_over() -> None:
    assert {name for name, known in RULES.items() if known.left} == {
        name for name, known in RULES.items() if known.kind == Kind.PRODUCT
    }
