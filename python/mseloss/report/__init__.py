"""Compares results: whether they differ from what is expected, by how much, and where."""

from mseloss.report.chunks import chunks
from mseloss.report.report import Report, compare
from mseloss.report.ulp import ulp_distance

__all__ = ["Report", "chunks", "compare", "ulp_distance"]
