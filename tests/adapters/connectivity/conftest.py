"""Lets the tests of this room share small encoders, and check networks as the graph's tests do."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "graph"), str(Path(__file__).parent)]
