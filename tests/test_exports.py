import ranp


def test_every_public_name_is_there_and_says_what_it_does() -> None:
    for name in ranp.__all__:
        value = getattr(ranp, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_the_list_is_what_the_package_offers() -> None:
    assert sorted(ranp.__all__) == ranp.__all__
    lazy = set(ranp._HOMES)
    assert lazy <= set(ranp.__all__)
    eager = {name for name in set(ranp.__all__) - lazy if name in vars(ranp)}
    assert lazy | eager == set(ranp.__all__)
    assert dir(ranp) == ranp.__all__


def test_a_name_lives_where_the_list_says() -> None:
    for name, home in ranp._HOMES.items():
        assert getattr(ranp, name).__module__.startswith(home), name


def test_another_name_is_an_error() -> None:
    assert not hasattr(ranp, "prun")
