"""`opsin lab`: the course experiments, each one a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag, RootOption, SeedOption
from opsin.cli.output import print_json, print_line, stdout_console

app = cyclopts.App(name="lab", help="Run course experiments: questions answered by measurement, one report each.")
QUICK_HELP = "Embedded data and few epochs (the default), or the data of the course."


@app.command(name="list")
def list_labs(*, json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0) -> int:
    """List the labs."""
    from rich.table import Table

    from opsin import labs

    found = [labs.get(name) for name in labs.names()]
    if json_:
        print_json({"labs": [lab.to_dict() for lab in found]})
        return 0
    table = Table("lab", "about", "questions", "minutes, quick", "full needs", box=None, pad_edge=False)
    for lab in found:
        table.add_row(lab.name, lab.title, str(len(lab.questions)), f"{lab.minutes[0]:g}", lab.needs)
    stdout_console(highlight=False).print(table)
    return 0


@app.command
def show(name: str, /, *, json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0) -> int:
    """Show the questions of a lab, its requirements, and its duration on two idle cores."""
    from opsin import labs

    lab = labs.get(name)
    if json_:
        print_json(lab.to_dict())
        return 0
    print_line(f"{lab.title}: {lab.words}")
    print_line(f"needs {lab.needs}; quick {lab.minutes[0]:g} min, full {lab.minutes[1]:g} min on two idle cores")
    for place, asked in enumerate(lab.questions, 1):
        published = f" (published: {asked.published})" if asked.published else ""
        print_line(f"{place}. {asked.text}{published}")
    return 0


@app.command
def run(
    name: str,
    /,
    *,
    full: Annotated[bool, Parameter(name="--full", negative="--quick", help=QUICK_HELP)] = False,
    root: RootOption = None,
    out: Annotated[
        Path, Parameter(help="Folder of labs; this one is written to NAME-quick or NAME-full in it.")
    ] = Path("labs"),
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Run a lab and write its report; an interrupted lab continues, its finished runs are not repeated."""
    from opsin import labs

    found = labs.run(name, quick=not full, root=root, out=out, quiet=quiet or json_)
    if json_:
        print_json(found.to_dict())
        return 0
    for place, answer in enumerate(found.answers, 1):
        print_line(f"{place}. {answer.question}\n   {answer.answer}")
        if answer.published:
            verdict = {True: "agrees", False: "differs", None: "not comparable"}[answer.agrees]
            print_line(f"   published {answer.published}; here {answer.ours}: {verdict}")
    print_line(f"report: {found.report.resolve()}")
    return 0


@app.command
def notebook(
    name: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The file to write; NAME.ipynb by default.")] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Write a lab as a notebook, one question after another."""
    from opsin import labs

    path = labs.notebook(name, out or Path(f"{name}.ipynb"))
    if json_:
        print_json({"lab": name, "file": str(path)})
    elif not quiet:
        print_line(path)
    return 0
