"""nnU-Net: networks from its plans, and slim ones back into plans that nnU-Net trains unmodified.

`network` and `slim_network` are named by runs and by plans; the rest is what `ranp` calls.
"""

from ranp.adapters.nnunet._export import export_plans
from ranp.adapters.nnunet._network import network, slim_network
from ranp.adapters.nnunet._plans import read_word
from ranp.adapters.nnunet._spend import Spending

__all__ = ["Spending", "export_plans", "network", "read_word", "slim_network"]
