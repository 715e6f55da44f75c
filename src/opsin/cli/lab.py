"""`opsin lab`: the course experiments, each one a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, QuietFlag, RootOption, SeedOption
from opsin.cli.output import print_json, print_line, stdout_console
from opsin.errors import CheckFailedError, ConfigError, RefusedError

if TYPE_CHECKING:
    from opsin.labs import AllResults, LabResult
    from opsin.labs.exercises import Checked
    from opsin.labs.plans import LabForecast

app = cyclopts.App(name="lab", help="Run course experiments: questions answered by measurement, one report each.")
QUICK_HELP = "Embedded data and few epochs (the default), or the data of the course."
FullFlag: TypeAlias = Annotated[bool, Parameter(name="--full", negative="--quick", help=QUICK_HELP)]


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
        table.add_row(lab.name, lab.title, str(len(lab.questions)), _minutes(lab.minutes[0]), lab.needs)
    stdout_console(highlight=False).print(table)
    return 0


@app.command
def show(
    name: str,
    /,
    *,
    full: FullFlag = False,
    root: RootOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Show the questions of a lab, its requirements, and how long its trainings would take on this machine."""
    from opsin import labs

    lab = labs.get(name)
    found, words = _forecast(name, full=full, root=root)
    if json_:
        print_json(lab.to_dict() | {"forecast": None if found is None else found.to_dict()})
        return 0
    print_line(f"{lab.title}: {lab.words}")
    print_line(
        f"needs {lab.needs}; minutes, as measured: quick {_minutes(lab.minutes[0])}, full {_minutes(lab.minutes[1])}"
    )
    print_line(f"forecast: {words}")
    for place, asked in enumerate(lab.questions, 1):
        published = f" (published: {asked.published})" if asked.published else ""
        print_line(f"{place}. {asked.text}{published}")
    return 0


@app.command
def run(
    name: Annotated[str | None, Parameter(help="The lab; left out with --all.")] = None,
    /,
    *,
    all_: Annotated[
        bool, Parameter(name="--all", negative=(), help="Every lab, with an index of the reports.")
    ] = False,
    full: FullFlag = False,
    minutes: Annotated[float | None, Parameter(help="Budget of the lab, or of all: runs share what is left.")] = None,
    exercise: Annotated[
        Path | None,
        Parameter(help="Run nothing: write a notebook with the questions, without answers, into this folder."),
    ] = None,
    root: RootOption = None,
    out: Annotated[
        Path, Parameter(help="Folder of labs; this one is written to NAME-quick or NAME-full in it.")
    ] = Path("labs"),
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: Annotated[
        int, WHOLE, Parameter(name="--seed", help="Accepted by every verb; a lab sets the seeds of its runs itself.")
    ] = 0,
) -> int:
    """Run a lab and write its report; an interrupted lab continues, its finished runs are not repeated."""
    from opsin import labs
    from opsin.config import require

    require(minutes is None or minutes > 0, "minutes", minutes, "more than 0")
    common: dict[str, Any] = {"quick": not full, "root": root}
    if (name is None) is not all_:
        do = "`opsin lab run NAME`, or `opsin lab run --all`"
        raise ConfigError("one lab, or all of them", where="opsin lab run", got=name, do=do)
    if exercise is not None:
        if name is None or minutes is not None:
            raise ConfigError(
                "an exercise is of one lab, and runs nothing", where="--exercise", do="name the lab alone"
            )
        return _written(name, labs.exercise(name, exercise, **common), json_=json_, quiet=quiet)
    common |= {"out": out, "minutes": minutes, "quiet": quiet or json_}
    return _tell_all(labs.run_all(**common), json_) if name is None else _tell(labs.run(name, **common), json_)


@app.command
def check(
    name: str,
    folder: Path,
    /,
    *,
    full: FullFlag = False,
    root: RootOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Tell which answers of an exercise agree with what its own runs measured; the exit code is 3 unless all do."""
    from opsin import labs

    found = labs.check(name, folder, quick=not full, root=root)
    agree = sum(answer.verdict == "agrees" for answer in found)
    if json_:
        print_json({"lab": name, "agree": agree, "questions": len(found), "answers": [a.to_dict() for a in found]})
    else:
        for place, answer in enumerate(found, 1):
            parts = [f"{place}. {answer.verdict}: {answer.question}"]
            parts += [f"   {what}: {', '.join(names)}" for what, names in _parts(answer) if names]
            print_line("\n".join([*parts, *([f"   {answer.note}"] if answer.note else [])]))
        print_line(f"{agree} of {len(found)} agree with what was measured here")
    return 0 if agree == len(found) else CheckFailedError.exit_code


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

    return _written(name, labs.notebook(name, out or Path(f"{name}.ipynb")), json_=json_, quiet=quiet)


def _written(name: str, path: Path, *, json_: bool, quiet: bool) -> int:
    """Tell where a notebook was written."""
    if json_:
        print_json({"lab": name, "file": str(path)})
    elif not quiet:
        print_line(path)
    return 0


def _tell(found: LabResult, json_: bool) -> int:
    """Print the answers of a lab, and where its report is."""
    if json_:
        print_json(found.to_dict())
        return 0
    for place, answer in enumerate(found.answers, 1):
        print_line(f"{place}. {answer.question}\n   {answer.answer}")
        if answer.published:
            verdict = {True: "agrees", False: "differs", None: "not comparable"}[answer.agrees]
            print_line(f"   published {answer.published}; here {answer.ours}: {verdict}")
    if found.cut:
        print_line(f"the budget ended {len(found.cut)} of {len(found.runs)} runs early; the report lists them")
    print_line(f"report: {found.report.resolve()}")
    return 0


def _tell_all(found: AllResults, json_: bool) -> int:
    """Print a line for each lab, and where the index is."""
    if json_:
        print_json(found.to_dict())
    else:
        for lab in found.labs:
            print_line(f"{lab.lab}: {len(lab.answers)} questions, {lab.seconds:.0f} s, {lab.report.resolve()}")
        for name, why in found.failures.items():
            print_line(f"{name} failed: {why}")
        print_line(f"{found.seconds:.0f} s in all; index: {found.index.resolve()}")
    return CheckFailedError.exit_code if found.failures else 0


def _parts(answer: Checked) -> list[tuple[str, tuple[str, ...]]]:
    return [("these differ", answer.wrong), ("not answered", answer.open)]


def _forecast(name: str, *, full: bool, root: str | None) -> tuple[LabForecast | None, str]:
    """How long the trainings of a lab would take here, and the same in words; None where its data are not at hand."""
    from opsin import labs
    from opsin.progress import duration

    form = "full" if full else "quick"
    try:
        found = labs.forecast(name, quick=not full, root=root)
    except RefusedError as error:
        return None, f"none of the {form} form: {error}"
    if not found.seconds:
        return found, "nothing is trained"
    words = f"{form}, {len(found.seconds)} trainings, about {duration(60 * found.minutes)} at the speed just measured"
    return found, words


def _minutes(measured: float | None) -> str:
    return "not measured" if measured is None else f"{measured:g}"
