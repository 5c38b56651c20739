"""Every message on the troubleshooting page is one that the code can print."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| (`.*?) \| ", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.MULTILINE)
MESSAGES = [message for row in ROWS for message in re.findall(r"`(.+?)`(?!\w)", row)]


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Return every string of the code; values that are put into one are a NUL."""
    found = []
    for folder in ("ranp", "commands", "adapters", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 60


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_can_say_it(message: str, words: list[str]) -> None:
    pieces = [piece.strip() for piece in message.split("...") if piece.strip()]
    pattern = re.compile(".*".join(map(re.escape, pieces)), flags=re.DOTALL)
    assert any(pattern.search(text) for text in words)
