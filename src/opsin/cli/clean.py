"""`opsin clean`: find labels that are likely wrong, and write a corrected data set from verdicts on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, QuietFlag, RootOption
from opsin.cli.output import print_json, print_line, print_note
from opsin.types import JsonDict, JsonMapping

if TYPE_CHECKING:
    from opsin.cleaning.clean import Cleaning
    from opsin.runs import Run

SHOWN = 10


def clean(
    data: Annotated[str, Parameter(help="A run, or a classification data set: catalogue name or path.")],
    /,
    *,
    root: RootOption = None,
    subset: Annotated[str | None, Parameter(help="First n samples of a split, e.g. train=10000.")] = None,
    by: Annotated[
        Literal["auto", "features", "train"],
        Parameter(
            help="Predictor out of fold: regression on `features` of a pretrained network (minutes; colour), or "
            "a network trained for each fold."
        ),
    ] = "auto",
    folds: Annotated[int, WHOLE, Parameter(help="Number of folds.")] = 5,
    skip_unreadable: Annotated[
        int | None,
        WHOLE,
        Parameter(help="Go on when at most this many images of a split cannot be read; by default as in the run."),
    ] = None,
    verdicts: Annotated[Path, Parameter(help="Table of verdicts, to write or to apply.")] = Path("verdicts.csv"),
    out: Annotated[Path, Parameter(name="--out", help="Page to write.")] = Path("suspects.html"),
    apply: Annotated[
        Path | None, Parameter(help="Write a new data set (CSV) from the edited verdicts; nothing is overwritten.")
    ] = None,
    retrain: Annotated[
        bool, Parameter(negative="", help="With --apply on a run: retrain, and report which verdicts changed.")
    ] = False,
    runs: Annotated[str, Parameter(name="--runs", help="Folder of runs.")] = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: Annotated[int, WHOLE, Parameter(name="--seed", help="Seed of the folds and of the predictor.")] = 0,
) -> int:
    """Find labels that are likely wrong, copies with different labels, and images unlike their class.

    Test stays sealed. The page shows the suspects, worst first; the table takes verdicts: keep, relabel=CLASS or drop.
    """
    from opsin.cleaning.clean import apply as apply_verdicts
    from opsin.cleaning.clean import clean as find_suspects

    source = _run_or_data(data, runs)
    if apply is not None:
        path = apply_verdicts(source, verdicts=verdicts, out=apply, root=root, subset=subset)
        again = _retrained(source, path, verdicts, runs=runs, root=root, quiet=quiet) if retrain else {}
        return _tell_applied(path, {"data": str(path), "verdicts": str(verdicts)} | again, json_=json_, quiet=quiet)
    cleaning = find_suspects(
        source,
        root=root,
        subset=subset,
        way=by,
        folds=folds,
        seed=seed,
        skip_unreadable=skip_unreadable,
        page=out,
        verdicts=verdicts,
        out=runs,
        quiet=quiet,
    )
    return _tell_suspects(cleaning, json_=json_, quiet=quiet)


def _tell_applied(path: Path, found: JsonMapping, *, json_: bool, quiet: bool) -> int:
    """Print where the new data set is, and what retraining changed; returns the exit status."""
    if json_:
        print_json(found)
    elif not quiet:
        for line in found.get("lines", ()):
            print_line(line)
        print_line(path)
    return 0


def _tell_suspects(cleaning: Cleaning, *, json_: bool, quiet: bool) -> int:
    """Print the worst suspects, and where all of them are; returns the exit status."""
    if json_:
        print_json(cleaning.to_json())
    elif not quiet:
        print_line(cleaning.words)
        for suspect in cleaning.suspects[:SHOWN]:
            print_line(f"{suspect.id}: {suspect.label}, suggested {suspect.suggestion} ({', '.join(suspect.reasons)})")
        print_line(f"{cleaning.page}, {cleaning.verdicts}")
    if not quiet:
        for note in cleaning.notes:
            print_note(f"note: {note}")
    return 0


def _run_or_data(data: str, runs: str) -> Run | str:
    from opsin.runs import Run

    places = (Path(data), Path(runs) / data)
    return next((Run(place) for place in places if (place / "config.json").is_file()), data)


def _retrained(source: Run | str, data: Path, verdicts: Path, *, runs: str, root: str | None, quiet: bool) -> JsonDict:
    from opsin.cleaning.retraining import retrain
    from opsin.errors import ConfigError
    from opsin.runs import Run

    if not isinstance(source, Run):
        raise ConfigError(
            "`--retrain` needs a run", got=source, expected="a run", do="name a run instead of a data set"
        )
    found = retrain(source, data, verdicts=verdicts, out=runs, root=root, quiet=quiet)
    return found.to_json() | {"lines": list(found.lines())}
