"""`opsin tune DATA`: hyperparameter search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from opsin.cli.options import (
    FLAT,
    NO_SETTINGS_BUT_MINUTES,
    WHOLE,
    DataArgument,
    JsonFlag,
    QuietFlag,
    RecipeOption,
    RootOption,
    SettingsButMinutes,
    StudyName,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, print_line

if TYPE_CHECKING:
    from opsin.studies.tuning import TuneResult

TRIALS_HELP = "Total trials of the study; 40 by default without --minutes."
MINUTES_HELP = "Wall-clock budget of this command in minutes, final comparison included."
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
    seeds: Annotated[
        int, WHOLE, Parameter(help="Fresh seeds for the comparison of the winner with the given settings.")
    ] = 3,
    root: RootOption = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    name: StudyName = None,
    runs: Annotated[str, Parameter(name="--runs", help="Folder of runs.")] = "runs",
    out: Annotated[
        str | None, Parameter(help="File for the winner's recipe; by default best.toml in the study's folder.")
    ] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    settings: Annotated[SettingsButMinutes, FLAT] = NO_SETTINGS_BUT_MINUTES,  # type: ignore[valid-type]
) -> int:
    """Search for settings that score better on val, and compare the best with the given ones, with fresh seeds.

    A killed study continues with the same command and --name; several processes may share one. Test stays sealed.
    """
    from opsin.cli.train import typed_command
    from opsin.studies.tuning import tune as run_search
    from opsin.training.engine.budget import process_began

    layer: dict[str, Any] = ({"task": task} if task else {}) | given(settings)
    found = run_search(
        data,
        trials=trials,
        minutes=minutes,
        space=space,
        search=search,
        seeds=seeds,
        root=root,
        recipe=recipe,
        name=name,
        out=runs,
        file=out,
        quiet=quiet,
        command=typed_command(),
        began=process_began(),
        **layer,
    )
    if json_:
        print_json(found.to_dict())
    elif not quiet:
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
