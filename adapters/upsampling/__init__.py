"""Upsampling that is learned from content: CARAFE, FADE and FADE-Lite, for images, volumes and signals.

up = FADE(64)                                         # decoder (B, 64, H, W), encoder (B, 64, 2H, 2W)
fine = up(decoder, encoder)
model = swap_upsampling(model, "fade", example_inputs=image)      # a copy of a network, upsampling by FADE
"""

from ranp.adapters.upsampling._blending import blend
from ranp.adapters.upsampling._carafe import CARAFE
from ranp.adapters.upsampling._fade import FADE, FADELite
from ranp.adapters.upsampling._swapping import (
    Upsampled,
    swap_upsampling,
    with_carafe,
    with_fade,
    with_fade_lite,
)
from ranp.adapters.upsampling.watching import Feature

__all__ = [
    "CARAFE",
    "FADE",
    "FADELite",
    "Feature",
    "Upsampled",
    "blend",
    "swap_upsampling",
    "with_carafe",
    "with_fade",
    "with_fade_lite",
]
