"""Published overheads of FADE, FADE-Lite and CARAFE, from the modules themselves: the rows of docs/upsampling.md."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ranp.adapters.upsampling import CARAFE, FADE, FADELite

# (channels, decoder positions) of every upsampler, for an image of 512 x 512.
SEGFORMER = [(256, side**2) for side in (16, 32, 64, 32, 64, 64)]  # chains from 1/32, 1/16 and 1/8 to 1/4
MATTING = [(256, 32**2), (128, 64**2), (64, 128**2), (64, 256**2)]
DOCS = Path(__file__).parents[3] / "docs" / "upsampling.md"


@cache
def overhead(kind: type[nn.Module], channels: int) -> tuple[int, int]:
    """Return parameters, and multiply-accumulates per decoder position: convolutions, and 25 taps for 4 positions."""
    side, up = 4, kind(channels)
    features = torch.zeros(1, channels, side, side), torch.zeros(1, channels, 2 * side, 2 * side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        up(*features)
    convolutions = counter.get_total_flops() // 2 // side**2
    return sum(p.numel() for p in up.parameters()), convolutions + 4 * 25 * channels


@pytest.mark.parametrize(
    ("kind", "places", "parameters", "operations"),
    [
        (FADE, SEGFORMER, 285_084, 2.62),
        (FADELite, SEGFORMER, 79_992, 0.86),
        (CARAFE, SEGFORMER, 444_888, 1.45),
        (FADE, MATTING, 124_008, 8.81),
        (FADELite, MATTING, 27_216, 1.46),
        (CARAFE, MATTING, 263_824, 6.00),
    ],
)
def test_overheads(kind: type[nn.Module], places: list[tuple[int, int]], parameters: int, operations: float) -> None:
    overheads = [overhead(kind, channels) for channels, _ in places]
    assert sum(count for count, _ in overheads) == parameters
    billions = sum(macs * positions for (_, macs), (_, positions) in zip(overheads, places, strict=True)) / 1e9
    assert round(billions, 2) == operations
    row = f"| {parameters:,} | {operations:.2f} G |"
    assert row in DOCS.read_text(), row


def test_the_gate_costs_eight_products_a_channel_and_position() -> None:
    """What the papers add for FADE and leave out for FADE-Lite on matting: 2.62 + 0.03, 8.81 + 0.05, 1.46."""
    gates = [sum(8 * channels * positions for channels, positions in places) / 1e9 for places in (SEGFORMER, MATTING)]
    assert [round(billions, 2) for billions in gates] == [0.03, 0.05]
    for number in ("2.65", "8.85", "1.46", "0.89"):
        assert re.search(rf"\b{number}\b", DOCS.read_text()), number
