import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from ranp import models
from ranp.adapters.jobs.options import Fuse, Refine
from ranp.adapters.mrf._directions import _TABLES
from ranp.adapters.transparent.activations import ACTIVATIONS
from ranp.commands._words import BUILT_INS, complete_model, complete_preset
from ranp.commands.main import app as program
from ranp.jobs.options import Compare
from ranp.options import Options, listing
from ranp.pipeline import METHODS

Call = Callable[..., Any]


def test_completion_offers_what_the_registry_has() -> None:
    assert {name: tuple(models.presets(name)) for name in models.names()} == BUILT_INS
    assert complete_model("unet") == ["unet2d", "unet3d"]
    assert complete_preset(SimpleNamespace(params={"model": "unet3d"}, args=[]), "shape") == [
        "shapenet-15",
        "shapenet-23",
    ]  # type: ignore[arg-type]
    assert complete_preset(SimpleNamespace(params={}, args=[]), "ucf") == ["ucf101"]  # type: ignore[arg-type]


def test_every_built_in_is_listed(ranp: Call, answer: Call) -> None:
    text = ranp("models").stdout
    assert all(name in text for name in models.names())
    assert [each["name"] for each in answer("models")["models"]] == models.names()


def test_one_is_shown_as_set_takes_it(ranp: Call, answer: Call, refused: Call) -> None:
    text = ranp("models", "psm").stdout
    assert "--set pools=[64,32,16,8]" in text
    assert "--preset sceneflow" in text
    assert answer("models", "unet3d")["settings"]["base_width"] == 32
    assert "did you mean 'unet3d'?" in refused("models", "unt3d")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ranp pr", ["profile", "prune", "predict"]),
        ("ranp prune un", ["unet2d", "unet3d"]),
        ("ranp prune unet3d --preset ", ["shapenet-15", "shapenet-23", "brats-15"]),
        ("ranp prune --seed 1 i3d --preset u", ["ucf101"]),
        ("ranp export run --model un", ["unet2d", "unet3d"]),
        ("ranp transfer run --model ps", ["psm"]),
        ("ranp inspect run --model ps", ["psm"]),
        ("ranp compare run --max-sparsity-of R", ["RANP-m", "RANP-f"]),
        ("ranp fuse seg", ["segnet"]),
    ],
)
def test_the_shell_is_offered_what_fits(line: str, offered: list[str]) -> None:
    words = {"_RANP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from ranp.commands.main import app; app(prog_name='ranp')"],
        capture_output=True, text=True, check=True, env={**os.environ, **words},
    )  # fmt: skip
    assert done.stdout.split() == offered


def test_every_option_of_fixed_words_offers_them() -> None:
    group = typer.main.get_command(program)
    offered = 0
    for verb, command in group.commands.items():  # type: ignore[attr-defined]
        known = {each.name: each for each in listing(getattr(command.callback, "options", Options))}
        for parameter in command.params:
            words = known[parameter.name].offered if parameter.name in known else ()
            if words:
                offered += 1
                found = parameter.shell_complete(typer.Context(command), "")
                assert [each.value for each in found] == list(words), (verb, parameter.name)
    assert offered > 30


def test_words_that_options_offer_are_those_there_are() -> None:
    words = {each.name: set(each.offered) for options in (Compare, Fuse, Refine) for each in listing(options)}
    assert words["max_sparsity_of"] == set(METHODS)
    assert words["activation"] == set(ACTIVATIONS)
    assert words["directions"] == {str(size) for _, sizes in _TABLES.values() for size in sizes}
