"""The report of a run: one self-contained HTML page without scripts.

The page's security policy permits only its own style sheet (by hash) and images inside the page: a class
or file named `<script>` is shown as text, and could not run even if it were not.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.report.diagnosis import DIAGNOSIS
from opsin.report.render import render, source
from opsin.report.sections import FIRST, LAST, Section, headline
from opsin.report.view import View, view_of
from opsin.runs import Run
from opsin.tasks.cards import part_of, task_names


def write_report(run: Run | Path | str, *, out: Path | str | None = None) -> Path:
    """Write the report of a run as one self-contained HTML page.

    Args:
        run: the run, or its folder.
        out: the file to write; by default `report.html` in the run's folder.

    Returns:
        The file that was written.

    Raises:
        RunError: there is no run at that path.
        InputError: a file of the run is damaged.
    """
    opened = run if isinstance(run, Run) else Run(run)
    target = Path(out) if out is not None else opened.path / "report.html"
    write_atomically(target, page(view_of(opened)).encode("utf-8"))
    return target


def page(view: View) -> str:
    """The whole page as text."""
    style = source("figures.css") + source("page.css")
    values = {
        **headline(view),
        "sections": [(section, section.show(view)) for section in sections_of(view)],
        "style": Markup(style),
        "policy": policy(style),
    }
    return str(render("page.html", values))


def sections_of(view: View) -> tuple[Section, ...]:
    """The sections of a report, in order: those of every task around those of this one."""
    own = part_of(view.task, "report").SECTIONS if view.task in task_names() else ()
    return (*FIRST, *own, *DIAGNOSIS, *LAST)


def policy(style: str) -> str:
    """The content security policy: this style sheet, images in the page, nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
