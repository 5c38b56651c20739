"""Pages that show a run: what it saved, how its units were chosen, and the proof, in one file that loads nothing."""

from ranp.report.timing import enter_times
from ranp.report.writing import read_comparison, write_report

__all__ = ["enter_times", "read_comparison", "write_report"]
