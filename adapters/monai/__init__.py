"""MONAI's bundles: networks from their configs, and slim ones back as bundles that MONAI trains and infers with."""

from ranp.adapters.monai._bundle import export_bundle, slim_network
from ranp.adapters.monai._reading import read_word

__all__ = ["export_bundle", "read_word", "slim_network"]
