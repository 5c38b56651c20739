"""Lets the tests of this room check networks as the graph's tests do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "graph"))
