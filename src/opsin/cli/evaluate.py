"""`opsin evaluate RUN`: scores with intervals, on val, on the sealed test split, or on another data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from opsin.cli.options import (
    WHOLE,
    DeviceOption,
    JsonFlag,
    OutOption,
    QuietFlag,
    RootOption,
    TtaOption,
    views_of,
)
from opsin.cli.output import print_json, print_line, print_note, stdout_console, typed_command

WRITTEN = ("evaluation.json", "confusion.csv", "wrong.csv", "wrong/")
"""What `--folder` may leave: not every task has a confusion, and not every network is wrong."""
NUM_WORST = 5

if TYPE_CHECKING:
    from rich.table import Table

    from opsin.config import TrainConfig
    from opsin.evaluation import Evaluation, WithoutCopies
    from opsin.models.wrappers.views import ViewName
    from opsin.runs import Run
    from opsin.types import Score, SplitName

    Columns = Sequence[tuple[str, Mapping[str, Score]]]
    """Column headings, each with its scores."""


RobustnessFlag = Annotated[
    bool,
    Parameter(
        negative="",
        help="The main score under rotation, shift, scale, blur, noise, JPEG, brightness, contrast and occlusion, "
        "instead of the scores; stored in the run and shown in its report.",
    ),
]
ByOption = Annotated[
    str | None,
    Parameter(help="The main score by group instead: folder, size, brightness, or a column of a CSV file."),
]
ByTableOption = Annotated[
    Path | None,
    Parameter(help="CSV with the column of `--by` and the samples' paths; by default the run's own."),
]


def evaluate(
    run: Annotated[str, Parameter(help="Name of the run in `--runs`, or its folder.")],
    /,
    *,
    split: Annotated[
        Literal["train", "val", "test"] | None,
        Parameter(
            help="Split to score; by default val, or all samples of other data without splits. `test` is sealed: each "
            "opening is recorded in the run."
        ),
    ] = None,
    data: Annotated[
        str | None, Parameter(help="Another data set with the same classes, instead of the run's own.")
    ] = None,
    root: RootOption = None,
    out: OutOption = "runs",
    batch_size: Annotated[int, WHOLE, Parameter(help="Images in one forward pass.")] = 256,
    device: DeviceOption = "auto",
    good_iou: Annotated[
        float | None, Parameter(help="Least IoU of a good box (localization); by default that of the run.")
    ] = None,
    copies: Annotated[
        bool,
        Parameter(negative="", help="Also score without the samples that have an exact or near copy in train."),
    ] = False,
    tta: TtaOption = None,
    robustness: RobustnessFlag = False,
    by: ByOption = None,
    by_table: ByTableOption = None,
    folder: Annotated[
        Path | None,
        Parameter(help="New folder for scores (JSON), confusion matrix and wrong samples (CSV) and their pictures."),
    ] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: Annotated[int, WHOLE, Parameter(name="--seed", help="Seed of `--robustness`; nothing else is random.")] = 0,
) -> int:
    """Score a run's network."""
    from opsin.config import require
    from opsin.evaluation import evaluate as score
    from opsin.progress import Reporter
    from opsin.report import write_report
    from opsin.runs import Run

    require(batch_size > 0, "batch_size", batch_size, "more than 0")
    opened = Run.open(run, out=out)
    if robustness or by is not None:
        others = {"data": data, "good_iou": good_iou, "copies": copies, "folder": folder}
        others |= {"by": by} if robustness else {"tta": tta}
        _check_alone(others, "robustness" if robustness else "by")
        chosen = split or "val"
        if by is not None:
            return _by_group(opened, by, chosen, by_table, root, json_=json_)
        return _card(opened, chosen, root, batch_size, device, seed, views_of(tta), json_=json_, quiet=quiet)
    found = score(
        opened,
        split=split,
        data=data,
        root=root,
        batch_size=batch_size,
        device=device,
        good_iou=good_iou,
        copies=copies,
        tta=views_of(tta),
        folder=folder,
        command=typed_command(),
        report=Reporter(quiet=quiet),
    )
    if (found.split == "test" or copies or tta) and (opened.path / "report.html").is_file():
        write_report(opened)  # it shows how often the test split was opened, and the other scores
    if json_:
        print_json(found.to_json())
    else:
        settings = opened.config.train
        _print(found, opened.task, replace(settings, good_iou=good_iou or settings.good_iou))
        _print_classes(found, folder)
    if not quiet:
        _print_notes(found)
    return 0


def _check_alone(others: Mapping[str, Any], option: str) -> None:
    """Refuse options that do not apply to `--robustness` and `--by`."""
    from opsin.errors import ConfigError

    if given := [f"--{name.replace('_', '-')}" for name, value in others.items() if value]:
        raise ConfigError(
            f"`--{option}` cannot be combined with these options", got=", ".join(given), do="use one command for each"
        )


def _card(
    run: Run,
    split: SplitName,
    root: str | None,
    batch_size: int,
    device: str,
    seed: int,
    tta: Sequence[ViewName],
    *,
    json_: bool,
    quiet: bool,
) -> int:
    from opsin.cli.cards import print_cards
    from opsin.diagnosis.robustness import robustness
    from opsin.progress import Reporter
    from opsin.report import write_report
    from opsin.types import scores_to_json

    card = robustness(
        run,
        split=split,
        root=root,
        batch_size=batch_size,
        device=device,
        tta=tta,
        seed=seed,
        command=typed_command(),
        report=Reporter(quiet=quiet),
    )
    if (run.path / "report.html").is_file():
        write_report(run)
    if json_:
        plain = {"run": str(run.path), "split": split, "n": card.n, "scores": scores_to_json({card.score: card.clean})}
        print_json(plain | {"robustness": card.to_json()})
    else:
        print_cards([card], quiet=quiet)
    return 0


def _by_group(run: Run, by: str, split: SplitName, table: Path | None, root: str | None, *, json_: bool) -> int:
    from opsin.cli.cards import print_groups
    from opsin.diagnosis.groups import scores_by
    from opsin.types import scores_to_json

    found = scores_by(run, by, split=split, table=table, root=root)
    if json_:
        plain = {
            "run": str(run.path),
            "split": split,
            "n": found.n,
            "scores": scores_to_json({found.score: found.overall}),
        }
        print_json(plain | {"groups": found.to_json()})
    else:
        print_groups(found)
    return 0


def _print(found: Evaluation, task_name: str, settings: TrainConfig) -> None:
    from opsin.tasks import get_task

    kinds = get_task(task_name).for_scoring(settings).score_kinds
    titles = {name: kind.title for name, kind in kinds.items()}
    console = stdout_console()
    for columns, caption in _columns(found):
        console.print(_table(found, titles, columns, caption))


def _table(found: Evaluation, titles: dict[str, str], columns: Columns, caption: str | None) -> Table:
    """The scores as a table: one per row, with its interval."""
    from rich.table import Table
    from rich.text import Text

    heading = Text(f"{found.run} on {found.data}, {found.split}, {found.n:,} samples")
    below = None if caption is None else Text(caption)
    table = Table(title=heading, title_justify="left", caption=below, caption_justify="left")
    table.add_column("score")
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", no_wrap=True)
    for name in found.scores:
        shown = [cell for _, scores in columns for cell in _cells(scores[name])]
        table.add_row(Text(titles.get(name, name)), *shown)
    return table


def _columns(found: Evaluation) -> list[tuple[Columns, str | None]]:
    """The columns of scores of each table, and its caption: 80 characters are too few for three columns."""
    without, tta = found.without_copies, found.tta
    tables: list[tuple[Columns, str | None]] = []
    if without is not None:
        columns = [(f"all\n{found.n:,}", found.scores), (f"without\ncopies\n{without.n:,}", without.scores)]
        tables.append((columns, _copies_in_words(without)))
    if tta is not None:
        tables.append(([("one view", found.scores), ("with " + ",\n".join(tta.views), tta.scores)], None))
    return tables or [([("value", found.scores)], None)]


def _cells(score: Score) -> tuple[str, str]:
    """A score and its interval, each as a cell."""
    defined = score.value == score.value
    value = f"{score.value:.4f}" if defined else "n/a"
    return value, f"{score.low:.4f} to {score.high:.4f}" if defined and score.low == score.low else "n/a"


def _copies_in_words(without: WithoutCopies) -> str:
    """Which samples the columns on the right leave out."""
    near = "near copies were not searched for" if without.near is None else f"{without.near:,} more a near copy"
    verb = "has" if without.exact == 1 else "have"
    return f"{without.exact:,} {verb} an exact copy among the training images, {near}"


def _print_classes(found: Evaluation, folder: Path | None) -> None:
    """Print the worst classes, and where the wrong samples are listed."""
    rows = [row for row in found.details.get("per_class") or () if row["support"] and _share(row) is not None]
    worst = sorted(rows, key=lambda row: _share(row) or 0.0)[:NUM_WORST]
    if len(rows) > 1:
        print_line("worst classes: " + ", ".join(f"{row['class']} {_share(row):.3f}" for row in worst))
    if folder is not None:
        print_line(f"{folder}: {', '.join(name for name in WRITTEN if (folder / name).exists())}")
    elif found.details.get("confusion"):
        misses = [entry for entry in found.wrong if "predicted" in entry]
        told = f"{len(misses):,} of {found.n:,} misclassified; " if "label" in (found.wrong or [{}])[0] else ""
        print_line(f"{told}confusion matrix, classes and samples: --json, or --folder DIR")


def _share(row: Mapping[str, Any]) -> float | None:
    """A class's main rate: recall, IoU of masks, or samples with both class and box right."""
    value = next((row[key] for key in ("iou", "joint_accuracy", "recall") if key in row), None)
    share = value["value"] if isinstance(value, Mapping) else value
    return None if share is None else float(share)


def _print_notes(found: Evaluation) -> None:
    for note in found.notes:
        print_note(f"note: {note}")
    if found.split == "test":
        times = "once" if found.test_openings == 1 else f"{found.test_openings} times"
        print_note(f"the test split has been opened {times} in this run")
