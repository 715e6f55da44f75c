"""`opsin cv DATA`: cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from opsin.cli.options import (
    FLAT,
    NONE_GIVEN,
    WHOLE,
    DataArgument,
    JsonFlag,
    OutOption,
    QuietFlag,
    RecipeOption,
    RootOption,
    Settings,
    StudyName,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, print_line, stdout_console

if TYPE_CHECKING:
    from opsin.studies.cross_validation import CrossValidation


def cv(
    data: DataArgument,
    /,
    *,
    folds: Annotated[int, WHOLE, Parameter(help="Number of folds; each is held out once.")] = 5,
    root: RootOption = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    name: StudyName = None,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    settings: Annotated[Settings, FLAT] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Cross-validate: train on all folds but one, predict that one, and report the mean with its interval.

    Groups and copies stay in one fold; the predictions of all samples are kept as a table. Test stays sealed.
    """
    from opsin.cli.train import typed_command
    from opsin.studies.cross_validation import cross_validate

    layer: dict[str, Any] = ({"task": task} if task else {}) | given(settings)
    seed = layer.pop("seed", 0)
    found = cross_validate(
        data,
        folds=folds,
        seed=seed,
        root=root,
        recipe=recipe,
        name=name,
        out=out,
        quiet=quiet,
        command=typed_command(),
        **layer,
    )
    if json_:
        print_json(found.to_dict())
    elif not quiet:
        show(found)
    return 0


def show(found: CrossValidation) -> None:
    """Print the scores of all folds as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"{found.folds} folds of {len(found.out_of_fold):,} samples"
    caption = "95 % intervals: of the mean over folds; of all held-out predictions together, over samples"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    for heading in ("score", "mean over folds", "all together", "folds"):
        table.add_column(heading, no_wrap=heading != "folds")
    for key, score in found.scores.items():
        each = "  ".join(f"{scores[key]:.4f}" for scores in found.by_fold)
        table.add_row(key, str(score), str(found.pooled.get(key, "")), each)
    stdout_console(highlight=False, soft_wrap=True).print(table)
    for note in found.notes:
        print_line(f"note: {note}")
    print_line(found.path / "out_of_fold.csv")
