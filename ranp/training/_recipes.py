"""What published set-ups trained with, as options; and the default.

The texts of `shapenet` and `brats` give no factor and no epochs of their schedules: 0.96 an epoch and a tenth at two
thirds and five sixths are ours.
"""

from collections.abc import Mapping
from typing import Any

from ranp.options import Recipe, Training

RECIPES: Mapping[Recipe, Mapping[str, Any]] = {
    "default": {
        "optimizer": "adamw", "lr": 3e-3, "weight_decay": 1e-2, "schedule": "cosine", "warmup": 0.05, "clip": 12.0,
    },
    # Isensee et al., Nature Methods 2021: SGD with Nesterov's momentum, (1 - step / steps) ^ 0.9.
    "nnunet": {
        "optimizer": "sgd", "lr": 0.01, "momentum": 0.99, "weight_decay": 3e-5, "schedule": "poly", "gamma": 0.9,
        "clip": 12.0,
    },
    # RANP, 3DV 2020, and the thesis' section 5.6.1.3.
    "shapenet": {
        "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "exponential", "gamma": 0.96,
    },
    "brats": {
        "optimizer": "adam", "amsgrad": True, "lr": 1e-3, "weight_decay": 1e-5, "schedule": "step", "gamma": 0.1,
    },
    "ucf101": {
        "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "schedule": "step",
        "milestones": (40, 55, 60, 70), "gamma": 0.1,
    },
    # SparseMask, Wu et al., ICCV 2019 (its momentum is not Nesterov's), for the decoder; the encoder's rate is a tenth.
    "sparsemask": {
        "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 4e-5, "schedule": "poly", "gamma": 0.9,
    },
    "sceneflow": {"optimizer": "adam", "lr": 1e-3, "schedule": "constant"},
}  # fmt: skip
_REST: Mapping[str, Any] = {
    "momentum": 0.9, "amsgrad": False, "weight_decay": 0.0, "warmup": 0.0, "gamma": 0.1, "clip": 0.0,
}  # fmt: skip


def resolved(training: Training) -> Training:
    """Return the options with those of the recipe where none are given."""
    chosen = {**_REST, **RECIPES[training.recipe]}
    left = {name: value for name, value in chosen.items() if getattr(training, name) in (None, ())}
    return training.model_copy(update=left)
