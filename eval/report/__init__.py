"""Report of a verification: one HTML page, its figures as PNG, and the rates as JSON and as a table."""

from vargfacenet.eval.report.results import Result
from vargfacenet.eval.report.write import write_report

__all__ = ["Result", "write_report"]
