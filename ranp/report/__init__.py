"""Pages that show a run: what it saved, how its units were chosen, and the proof, in one file that loads nothing."""

from ranp.report._timing import enter_times
from ranp.report._writing import write_report

__all__ = ["enter_times", "write_report"]
