from ranp import figures


def test_figures_read_well() -> None:
    assert figures.operations(478_125_500_000) == "478.1 G"
    assert figures.operations(12) == "12"
    assert figures.size(3_804_233_728) == "3.54 GiB"
    assert figures.size(1023) == "1023 B"
    assert figures.saved(200, 50) == "75.0 %"
    assert figures.saved(0, 0) == "-"
    assert figures.seconds({"trace": 0.31, "score": 12.04}) == "12.3 s: trace 0.3, score 12.0"


def test_a_limit_is_never_rounded_up() -> None:
    assert figures.at_most(2 / 3, 6) == "0.666666"
    assert float(figures.at_most(2 / 3, 4)) <= 2 / 3
    assert figures.at_most(0.3, 4) == "0.3000"
    assert figures.at_most(0.0, 4) == "0.0000"
    assert figures.at_most(1e-9, 4) == "0.0000"
