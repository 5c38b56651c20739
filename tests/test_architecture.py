"""The picture in docs/architecture.md is the code: every module stands in a room, imports follow the arrows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS = {"ranp": "ranp", "commands": "ranp.commands", "adapters": "ranp.adapters", "kernels": "ranp.kernels"}
GROUND = re.findall(r"^ {4,5}(errors figures .*)$", PAGE, re.MULTILINE)[0].split()
FACES = ("ranp/__init__.py", "ranp/__main__.py")


def rooms() -> dict[str, tuple[list[str], set[str]]]:
    """Of each room in the table: its folders and files, and the rooms it stands on."""
    table = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and "`" in cells[2]:
            table[cells[0]] = (re.findall(r"`([^`]+)`", cells[2]), {w.strip() for w in cells[3].split(",")} - {""})
    return table


ROOMS = rooms()


def files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def room_of(file: str) -> str | None:
    if file in FACES:
        return "face"
    if file in {f"ranp/{name}.py" for name in GROUND}:
        return "ground"
    return next((name for name, (places, _) in ROOMS.items() if any(file.startswith(place) for place in places)), None)


def dotted(file: str) -> str:
    folder, _, rest = file.partition("/")
    return f"{FOLDERS[folder]}.{rest.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")


MODULES = {dotted(file): file for file in files()}


def imports(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ranp":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def test_the_picture_has_at_most_ten_rooms_and_a_sentence_for_each() -> None:
    assert 5 <= len(ROOMS) <= 10
    for name in ROOMS:
        assert PAGE.count(f"| {name} | ") == 1
        assert re.search(rf"\b{name}\b", PAGE.partition("| room |")[0]), f"{name} is not drawn"


def test_no_module_stands_outside_a_room() -> None:
    assert [file for file in files() if room_of(file) is None] == []
    loose = [file for file in files() if re.fullmatch(r"ranp/\w+\.py", file) and file != "ranp/__main__.py"]
    assert len(loose) <= 12
    assert [path.name for path in (ROOT / "adapters").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("name", [*ROOMS, "ground", "face"])
def test_imports_follow_the_arrows(name: str) -> None:
    allowed = {"ground": {"ground"}, "face": {*ROOMS, "ground", "face"}}.get(name) or {name, "face"} | ROOMS[name][1]
    wrong = [
        f"{file} -> {module}"
        for file in files()
        if room_of(file) == name
        for module in imports(file)
        if room_of(MODULES[module]) not in allowed
    ]
    assert wrong == []


def test_the_arrows_never_turn_back() -> None:
    seen: set[str] = {"ground"}
    while fresh := {name for name in ROOMS if name not in seen and ROOMS[name][1] <= seen}:
        seen |= fresh
    assert seen == {*ROOMS, "ground"}


def home(module: str) -> str:
    """The package that a module lies in, or is."""
    return module if MODULES[module].endswith("__init__.py") else module.rpartition(".")[0]


def public_names(package: str) -> set[str]:
    """What a room's face lists."""
    tree = ast.parse((ROOT / MODULES[package]).read_text())
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]  # type: ignore[attr-defined]
    return {name for each in lists for name in ast.literal_eval(each)}


def test_an_underscore_is_kept_by_the_room_and_worn_by_what_only_the_room_uses() -> None:
    used: dict[str, set[str]] = {}
    for importer, file in MODULES.items():
        for module in imports(file):
            if home(importer) != home(module):
                used.setdefault(module, set()).add(importer)
    private = {module for module in MODULES if module.rpartition(".")[2].startswith("_")}
    assert {module: users for module, users in used.items() if module in private} == {}
    free = {
        module
        for module in MODULES
        if home(module) not in ("ranp", module)
        and not home(module).endswith((".networks", ".layouts"))
        and module not in private
    }
    verbs = {module for module in free if home(module) == "ranp.commands"}  # what a person types
    entry_points = {"ranp.adapters.jobs.folder", "ranp.adapters.jobs.words"}
    shown = {module for module in free if module.rpartition(".")[2] in public_names(home(module))}
    assert sorted(free - set(used) - verbs - entry_points - shown) == []


def test_nothing_in_the_core_names_an_adapter() -> None:
    text = "".join((ROOT / file).read_text() for file in files() if file.startswith("ranp/"))
    assert "ranp.adapters" not in text
    assert "ranp.commands" not in text


def test_docs_and_examples_import_from_public_faces() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "examples").glob("*.py")]
    packages = {module for module, file in MODULES.items() if file.endswith("__init__.py")}
    for page in pages:
        for module in re.findall(r"^\s*(?:>>> )?(?:from|import) (ranp[\w.]*)", page.read_text(), re.MULTILINE):
            assert module in packages | {"ranp.errors"}, f"{page.name} imports {module}"


def test_the_graph_has_fewer_than_eight_floors() -> None:
    inside = {module: {*imports(file)} for module, file in MODULES.items() if module.startswith("ranp.graph")}
    floors: list[set[str]] = []
    while left := {module for module in inside if not any(module in floor for floor in floors)}:
        floors.append({module for module in left if not (inside[module] - {module}) & left})
        assert floors[-1], f"a circle of imports among {sorted(left)}"
    assert len(floors) < 8
