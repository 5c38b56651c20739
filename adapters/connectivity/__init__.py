"""Which of an encoder's features a decoder should join, and where: searched on the data, or carried over.

network = connect(encoder, image, out_channels=4)                    # a copy, with every connection and a gate on each
found = search_(network, batches, loss, Training(steps=2000))        # on the loop of `ranp train`
slim = emit(network, found.mask, image)                              # a plain module of the connections that stay
other = connect_by(transfer(found.mask, find_taps(resnet, image)), resnet, image, 4)
"""

from ranp.adapters.connectivity._costs import DecoderCosts, decoder_costs
from ranp.adapters.connectivity._decoder import Decoder, FullyDenseDecoder
from ranp.adapters.connectivity._edges import Dropped, Source, apply_drop_rule, every_edge, every_source
from ranp.adapters.connectivity._mask import ConnectivityMask, Edge, drop, from_edges, transfer
from ranp.adapters.connectivity._network import Connected, connect, connect_by, emit
from ranp.adapters.connectivity._picture import draw
from ranp.adapters.connectivity._search import Searched, search_, sparse_loss
from ranp.adapters.connectivity._taps import Tap, Tapped, find_taps

__all__ = [
    "Connected",
    "ConnectivityMask",
    "Decoder",
    "DecoderCosts",
    "Dropped",
    "Edge",
    "FullyDenseDecoder",
    "Searched",
    "Source",
    "Tap",
    "Tapped",
    "apply_drop_rule",
    "connect",
    "connect_by",
    "decoder_costs",
    "draw",
    "drop",
    "emit",
    "every_edge",
    "every_source",
    "find_taps",
    "from_edges",
    "search_",
    "sparse_loss",
    "transfer",
]
