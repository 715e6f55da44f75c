"""`opsin tune DATA`: hyperparameter search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.options import FLAT, PLAIN_STUDY, WHOLE, DataArgument, StudyOptions, optional
from opsin.cli.output import print_json, print_line
from opsin.config import GROUPS

if TYPE_CHECKING:
    from opsin.studies.tuning import TuneResult

SettingsButMinutes = optional(*GROUPS.values(), without="minutes")
NO_SETTINGS_BUT_MINUTES = SettingsButMinutes()
TRIALS_HELP = "Trials of the study in all; 40 where --minutes is not given either."
MINUTES_HELP = "Budget of this command by the clock on the wall, the comparison at its end included."
SPACE_HELP = (
    "TOML file of settings to search: lr = { low = 1e-4, high = 1e-1, log = true }, batch_size = [50, 100]. By default "
    "a space that fits task and network."
)
SEARCH_HELP = "Parameters to search in their default ranges, e.g. lr,batch_size,filters,dense,dropout,augment."


def tune(
    data: DataArgument,
    /,
    *,
    trials: Annotated[int | None, WHOLE, Parameter(help=TRIALS_HELP)] = None,
    minutes: Annotated[float | None, Parameter(help=MINUTES_HELP)] = None,
    space: Annotated[str | None, Parameter(help=SPACE_HELP)] = None,
    search: Annotated[str | None, Parameter(help=SEARCH_HELP)] = None,
    seeds: Annotated[int, WHOLE, Parameter(help="Fresh seeds of winner and given settings, to compare them.")] = 3,
    runs: Annotated[str, Parameter(name="--runs", help="Folder of runs.")] = "runs",
    out: Annotated[str | None, Parameter(help="File for the winner's recipe; best.toml in the study's folder.")] = None,
    study: Annotated[StudyOptions, FLAT] = PLAIN_STUDY,
    settings: Annotated[SettingsButMinutes, FLAT] = NO_SETTINGS_BUT_MINUTES,  # type: ignore[valid-type]
) -> int:
    """Search for settings that score better on val, and compare the best with the given ones, with fresh seeds.

    A killed study continues with the same command and --name; several processes may share one. Test stays sealed.
    """
    from opsin.studies.tuning import tune as run_search
    from opsin.training.engine.budget import process_began

    found = run_search(
        data,
        trials=trials,
        minutes=minutes,
        space=space,
        search=search,
        seeds=seeds,
        out=runs,
        file=out,
        began=process_began(),
        **study.call(settings),
    )
    if study.json_:
        print_json(found.to_dict())
    elif not study.quiet:
        show(found)
    return 0


def show(found: TuneResult) -> None:
    """Print the winner, what it changes, and whether it is better."""
    from opsin.studies.space import text_of_value

    print_line(f"trial {found.best.number} of {len(found.trials)}: val {found.score} {found.best.score:.4f}")
    for key, value in found.best.values.items():
        share = found.importances.get(key)
        print_line(f"  {key} {text_of_value(value)}" + ("" if share is None else f"   (importance {share:.0%})"))
    print_line(found.verdict + ("" if found.gain is None else f": {found.gain}"))
    print_line(found.recipe)
    print_line(found.page)
