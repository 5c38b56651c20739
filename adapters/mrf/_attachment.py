"""Join a segmentation network and an `MRFLayer` into one module."""

from torch import Tensor, nn

from ranp.adapters.mrf._edges import contrast_weights
from ranp.adapters.mrf._layer import MRFLayer
from ranp.errors import UsageError

EDGES = ("contrast",)
EXPORT_NOTE = "the MRF layer is an operator of ranp alone: the exported file holds the logits before it"


class Attached(nn.Module):
    """A network whose logits are refined before they leave.

    It prunes like the network alone: the labels are the layer's channels, so they stay, and everything before them
    may go.

    Args:
        body: maps (B, C, *spatial) to logits (B, L, *spatial).
        mrf: the layer.
        edges: `"contrast"` to weigh the edges by the contrast of the input image, None to weigh all alike.
    """

    def __init__(self, body: nn.Module, mrf: MRFLayer, edges: str | None = None) -> None:
        super().__init__()
        self.body, self.mrf, self.edges = body, mrf, edges

    def forward(self, image: Tensor) -> Tensor:
        """Return refined logits (B, L, *spatial) of an image (B, C, *spatial).

        Raises:
            UsageError: the network returns something else than one tensor, or of another size than the image where
                that gives the edge weights.
        """
        logits = self.body(image)
        if not isinstance(logits, Tensor):
            raise UsageError(f"mrf.attach: expected a network that returns one tensor, got a {type(logits).__name__}")
        return self.mrf(logits, self._edge_weights(image, logits))  # type: ignore[no-any-return]

    def _edge_weights(self, image: Tensor, logits: Tensor) -> Tensor | None:
        if self.edges is None:
            return None
        if image.shape[2:] != logits.shape[2:]:
            sizes = f"image {tuple(image.shape[2:])}, logits {tuple(logits.shape[2:])}"
            raise UsageError(f"mrf.attach(edges={self.edges!r}): expected logits of the size of the image, got {sizes}")
        return contrast_weights(image, directions=self.mrf.directions)

    def export_module(self) -> tuple[nn.Module, str]:
        """Return what a format without this layer can hold, the network up to its logits, and a line saying so."""
        return self.body, EXPORT_NOTE


def attach(model: nn.Module, layer: MRFLayer, *, edges: str | None = None) -> Attached:
    """Return a module that runs `model` and then refines its logits by `layer`; both are kept, not copied.

    Args:
        model: maps (B, C, *spatial) to logits (B, L, *spatial).
        layer: for the same L, and for as many spatial dimensions.
        edges: `"contrast"` to weigh the edges by the contrast of the input image, None to weigh all alike.

    Raises:
        UsageError: `layer` is no MRFLayer, or unknown `edges`.
    """
    if not isinstance(layer, MRFLayer):
        raise UsageError(f"mrf.attach: expected an MRFLayer, got a {type(layer).__name__}")
    if edges is not None and edges not in EDGES:
        raise UsageError(f"edges={edges!r}: expected one of {', '.join(EDGES)}, or None")
    return Attached(model, layer, edges)
