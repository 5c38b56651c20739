"""Clips whose class is how a random texture moves, which no single frame tells: a loader for videos without data.

    ranp train i3d --set "pool=[1,1,1]" --classes 8 --data benchmarks/moving.py:clips \\
        --val benchmarks/moving.py:held_out --patch 8x32x32 --batch-size 32 --lr 0.001 \\
        --steps 400 --out runs/moving
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

MOTIONS = ("left", "right", "up", "down", "nearer", "farther", "clockwise", "anticlockwise")
HELD_OUT = 10_000_000  # the seed of clips that nothing is trained on


def clips(
    size: int = 32, frames: int = 8, batch_size: int = 8, batches: int = 200, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield clips float32 (B, 3, frames, size, size) and the places of their motions in MOTIONS, int64 (B,)."""
    for number in range(batches):
        rng = np.random.default_rng((seed, number))
        labels = rng.integers(0, len(MOTIONS), batch_size)
        yield torch.stack([clip(int(label), size, frames, rng) for label in labels]), torch.from_numpy(labels)


def held_out(
    size: int = 32, frames: int = 8, batch_size: int = 32, batches: int = 12
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield clips to measure on."""
    return clips(size, frames, batch_size, batches, HELD_OUT)


def clip(motion: int, size: int, frames: int, rng: np.random.Generator) -> Tensor:
    """Move a texture under a window, at a random speed, with noise: (3, frames, size, size)."""
    texture = gaussian_filter(rng.standard_normal((3, 3 * size, 3 * size)), (0, 1.5, 1.5), mode="wrap")
    texture /= texture.std()
    place = np.stack(np.meshgrid(*(np.arange(size) - (size - 1) / 2,) * 2, indexing="ij"))  # (2, size, size)
    speed, start = rng.uniform(0.6, 1.4), rng.uniform(0, 3 * size, (2, 1, 1))
    moved = np.empty((3, frames, size, size))
    for frame in range(frames):
        time = frame * speed
        step = {"left": (0, time), "right": (0, -time), "up": (time, 0), "down": (-time, 0)}.get(
            MOTIONS[motion], (0, 0)
        )
        scale = {"nearer": 1 / (1 + 0.05 * time), "farther": 1 + 0.05 * time}.get(MOTIONS[motion], 1.0)
        angle = 0.06 * time * {"clockwise": 1, "anticlockwise": -1}.get(MOTIONS[motion], 0)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        seen = np.einsum("ij,jhw->ihw", turn, place) + np.reshape(step, (2, 1, 1)) + start
        for channel in range(3):
            moved[channel, frame] = map_coordinates(texture[channel], seen, order=1, mode="grid-wrap")
    noisy = moved + 0.2 * rng.standard_normal(moved.shape)
    return torch.from_numpy(noisy.astype(np.float32))
