from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ranp import models
from ranp.commands.words import BUILT_INS, complete_model, complete_preset

Call = Callable[..., Any]


def test_completion_offers_what_the_registry_has() -> None:
    assert {name: tuple(models.presets(name)) for name in models.names()} == BUILT_INS
    assert complete_model("unet") == ["unet2d", "unet3d"]
    assert complete_preset(SimpleNamespace(params={"model": "unet3d"}), "shape") == ["shapenet-15", "shapenet-23"]  # type: ignore[arg-type]
    assert complete_preset(SimpleNamespace(params={}), "ucf") == ["ucf101"]  # type: ignore[arg-type]


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
