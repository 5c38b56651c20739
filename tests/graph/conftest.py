"""Lets the tests of this room import their zoo of networks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
