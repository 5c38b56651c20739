"""The package map of pyproject.toml is kept by hand; these tests keep it honest."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"ranp": "ranp", "commands": "ranp.commands", "adapters": "ranp.adapters", "kernels": "ranp.kernels"}


def packages_on_disk() -> set[str]:
    found = set()
    for folder, package in FOLDERS.items():
        for marker in (ROOT / folder).rglob("__init__.py"):
            parts = marker.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *parts)))
    return found


def test_every_package_is_in_the_map() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(config["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_overlay_links_every_mapped_folder() -> None:
    links = {link.name: link.resolve() for link in (ROOT / "typings" / "ranp").iterdir()}
    assert links == {name: ROOT / name for name in FOLDERS if name != "ranp"}
