"""`opsin report`: the HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from opsin.cli.options import JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line


def report(
    run: str,
    /,
    *,
    out: Path | None = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Write the report of a run, one self-contained HTML page.

    Parameters
    ----------
    run
        Run by path or name.
    out
        File to write; by default report.html in the run's folder.
    """
    from opsin.report import write_report
    from opsin.runs import Run

    opened = Run.open(run)
    file = write_report(opened, out=out)
    if json_:
        print_json({"run": str(opened.path), "file": str(file)})
    elif not quiet:
        print_line(file)
    return 0
