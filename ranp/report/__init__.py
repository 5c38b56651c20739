"""Pages that show a run: what it saved, how its units were chosen, and the proof, in one file that loads nothing."""

from ranp.report._markup import Html, element
from ranp.report._page import document
from ranp.report._timing import enter_times
from ranp.report._writing import write_report

__all__ = ["Html", "document", "element", "enter_times", "write_report"]
