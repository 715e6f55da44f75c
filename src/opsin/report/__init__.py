"""The report of a run: figures and one self-contained HTML page, from the run folder alone."""

from __future__ import annotations

from opsin.report.overview import write_overview as write_overview
from opsin.report.page import write_report as write_report

__all__ = ["write_overview", "write_report"]
