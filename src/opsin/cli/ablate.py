"""`opsin ablate DATA`: what each part of a recipe is worth."""

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
    from opsin.studies.ablation import Ablation

DROP_HELP = "Parts to switch off, one at a time, e.g. augment,ema: `augment` is all augmentation, others are settings."
SWAP_HELP = (
    "A setting to change, e.g. optimizer=sgd; can be repeated. `+` joins settings that change together, e.g. "
    "optimizer=sgd+lr=0.1."
)


def ablate(
    data: DataArgument,
    /,
    *,
    drop: Annotated[tuple[str, ...], Parameter(help=DROP_HELP, negative="")] = (),
    swap: Annotated[tuple[str, ...], Parameter(help=SWAP_HELP, negative="")] = (),
    seeds: Annotated[int, WHOLE, Parameter(help="Runs of each variant, from --seed on.")] = 3,
    root: RootOption = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    name: StudyName = None,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    settings: Annotated[Settings, FLAT] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Train a baseline, each change alone and all changes together, and compare them on val, paired.

    All runs share splits and seeds. Intervals and p values are corrected for the number of changes.
    """
    from opsin.cli.train import typed_command
    from opsin.studies.ablation import ablate as run_ablation

    layer: dict[str, Any] = ({"task": task} if task else {}) | given(settings)
    found = run_ablation(
        data,
        drop=drop,
        swap=swap,
        seeds=seeds,
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


def show(found: Ablation) -> None:
    """Print the variants as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    seeds = f"{len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''} each"
    title = f"{found.score} on {found.samples:,} samples of {found.split}, {seeds}"
    caption = "95 % intervals; p adjusted for the number of changes (Holm): over samples, over seeds"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("change", overflow="fold", min_width=14)
    for heading in (found.score, "difference", "p", "seconds", "parameters"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rung in found.rungs:
        difference, p = "", ""
        if rung.difference is not None:
            difference = f"{rung.difference:+.4f} [{rung.difference_low:+.4f}, {rung.difference_high:+.4f}]"
            p = f"{rung.p_adjusted:.2g}" + ("" if rung.p_seeds_adjusted is None else f", {rung.p_seeds_adjusted:.2g}")
        words = f"{rung.name} ({rung.words})" if rung.words else rung.name
        cells = (f"{rung.score:.4f}", difference, p, f"{rung.seconds:,.1f}", f"{rung.parameters:,}")
        table.add_row(escape(words), *cells)
    stdout_console(highlight=False, soft_wrap=True).print(table)
    for rung in found.rungs:
        if rung.verdict:
            print_line(f"{rung.name}: {rung.verdict}")
    for name in found.diverged:
        print_line(f"{name}: diverged, no score")
    print_line(found.path)
