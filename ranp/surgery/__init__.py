"""From a plan to a smaller module, slim(), and the proof that it was cut right, verify()."""

from ranp.surgery._size import Size, compared_at
from ranp.surgery._slim import slim
from ranp.surgery._verify import verify
from ranp.surgery._widths import stale_widths

__all__ = ["Size", "compared_at", "slim", "stale_widths", "verify"]
