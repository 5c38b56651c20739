"""Lets the tests of this room use what the graph's tests check networks with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "graph"))
