"""Every test asserts: by itself, by what must raise, or through a helper of the tests that does."""

import ast
from pathlib import Path

CHECKS = {"raises", "warns", "assert_close", "assert_allclose", "opcheck", "gradcheck"}


def names_called(function: ast.FunctionDef) -> set[str]:
    functions = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {each.attr if isinstance(each, ast.Attribute) else each.id for each in functions
            if isinstance(each, ast.Attribute | ast.Name)}  # fmt: skip


def test_every_test_asserts() -> None:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    functions = [
        (file.name, node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    asserting = {n.name for _, n in functions if any(isinstance(each, ast.Assert) for each in ast.walk(n))} | CHECKS
    silent = [
        f"{file}:{node.name}"
        for file, node in functions
        if node.name.startswith("test_") and not asserting & {node.name, *names_called(node)}
    ]
    assert silent == []
    assert len(functions) > 500
