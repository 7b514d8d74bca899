"""A report of verification that people look at: one page, its images, and the figures as JSON and as a table."""

from vargfacenet.eval.report.write import Result, write_report

__all__ = ["Result", "write_report"]
