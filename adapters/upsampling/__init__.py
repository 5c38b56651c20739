"""Upsampling that is learned from content: CARAFE, FADE and FADE-Lite, for images, volumes and signals.

up = FADE(64)                                         # decoder (B, 64, H, W), encoder (B, 64, 2H, 2W)
fine = up(decoder, encoder)
model = swap_upsampling(model, "fade", example_inputs=image)      # a copy of a network, upsampling by FADE
"""

from ranp.adapters.upsampling.blending import blend
from ranp.adapters.upsampling.carafe import CARAFE
from ranp.adapters.upsampling.fade import FADE, FADELite
from ranp.adapters.upsampling.swapping import Feature, Upsampled, swap_upsampling

__all__ = ["CARAFE", "FADE", "FADELite", "Feature", "Upsampled", "blend", "swap_upsampling"]
