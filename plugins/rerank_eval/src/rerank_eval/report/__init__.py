"""The report: one HTML file that needs nothing else."""

from rerank_eval.report.writing import write_report

__all__ = ["write_report"]
