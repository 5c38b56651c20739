from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from ranp.errors import UsageError
from ranp.models.settings import accepts, check_settings

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, True),
        (int, 3.0, False),
        (int, True, False),
        (float, 3, True),
        (float, "3", False),
        (bool, 1, False),
        (str, "instance", True),
        (str | tuple, ["instance", {"affine": True}], True),
        (int | None, None, True),
        (int, None, False),
        (Sequence[int] | int, [1, 2], True),
        (Sequence[int] | int, "12", False),
        (Sequence[Sequence[int]], [[1], ["a"]], False),
        (tuple[int, int], [1, 2], True),
        (tuple[int, int], [1, 2, 3], False),
        (tuple[int, ...], [], True),
        (Literal["a", "b"], "c", False),
        (Callable[[], int], "anything", True),
        (Any, object(), True),
    ],
)
def test_accepts(annotation: Any, value: Any, expected: bool) -> None:
    assert accepts(annotation, value) is expected


def test_a_factory_that_takes_anything_is_given_anything() -> None:
    taken: list[dict[str, Any]] = []

    def anything(**settings: Any) -> None:
        taken.append(settings)

    check_settings(anything, {"whatever": 1}, "it")
    assert taken == []  # checked, not called


def test_missing_settings_are_all_named() -> None:
    def needs(a: int, b: int, c: int = 0) -> None: ...

    with pytest.raises(UsageError, match=r"it needs --set a=\.\.\. and --set b=\.\.\."):
        check_settings(needs, {"c": 1}, "it")


def test_annotations_that_cannot_be_read_check_nothing() -> None:
    def odd(a: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    check_settings(odd, {"a": "x"}, "it")
    with pytest.raises(UsageError, match="--set b"):
        check_settings(odd, {"b": 1}, "it")
