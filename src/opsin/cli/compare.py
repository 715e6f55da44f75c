"""`opsin compare`: is one run better than another?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, OutOption, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line, stdout_console

if TYPE_CHECKING:
    from opsin.comparison.comparison import Comparison
    from opsin.runs import Run
    from opsin.types import SplitName


def compare(
    *runs: str,
    split: Annotated[Literal["val", "test"], Parameter(help="Split whose stored predictions are compared.")] = "val",
    robustness: Annotated[
        bool,
        Parameter(
            negative="", help="Show the runs' robustness cards side by side (`opsin evaluate RUN --robustness`)."
        ),
    ] = False,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Compare runs on the same samples: scores with intervals, paired tests, parameters, work and time.

    Parameters
    ----------
    runs
        Two or more runs, by path or name. Runs that differ only in their seed, or in settings that do not affect
        results, form one group. With one run per group two networks are compared; two methods need several seeds each.
    """
    from opsin.api.verbs import compare as compare_runs
    from opsin.api.verbs import opened_run

    if robustness:
        return _robustness([opened_run(run, out) for run in runs], split, json_=json_, quiet=quiet)
    found = compare_runs(*runs, split=split, out=out)
    if json_:
        print_json(found.to_dict())
    elif not quiet:
        show(found)
    return 0


def _robustness(runs: Sequence[Run], split: SplitName, *, json_: bool, quiet: bool) -> int:
    from opsin.diagnosis.compare_cards import compare_cards

    found = compare_cards(runs, split=split)
    if json_:
        print_json(found.to_json())
    elif not quiet:
        from opsin.cli.cards import print_cards

        print_cards(found.cards)
        for pair in found.pairs:
            print_line(f"{pair.b} - {pair.a}: {pair.words}")
    return 0


def show(found: Comparison) -> None:
    """Print the groups and the pairs as tables."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    console = stdout_console(highlight=False, soft_wrap=True)
    title = f"{found.score} on {found.samples:,} samples of {found.split}"
    over = " and ".join(sorted({group.interval for group in found.groups}))
    caption = f"95 % intervals over {over}; Mflop to predict one image"
    groups = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    groups.add_column("runs", overflow="fold")
    for heading in ("seeds", found.score, "parameters", "Mflop", "seconds"):
        groups.add_column(heading, justify="right", no_wrap=True)
    for group in found.groups:
        score = f"{group.score:.4f} [{group.low:.4f}, {group.high:.4f}]"
        seconds = "n/a" if math.isnan(group.seconds) else f"{group.seconds:,.1f}"
        costs = (f"{group.parameters:,}", f"{group.flops / 1e6:,.2f}", seconds)
        groups.add_row(escape(group.name), str(len(group.runs)), escape(score), *costs)
    console.print(groups)
    for group in found.groups:
        for note in group.notes:
            console.print(f"{group.name}: {note}", markup=False)
    for pair in found.pairs:
        seeds = "" if pair.p_seeds_adjusted is None else f", over seeds {pair.p_seeds_adjusted:.2g}"
        interval = f"{pair.difference:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}]"
        tests = f"p {pair.p:.2g}, adjusted {pair.p_adjusted:.2g}{seeds}"
        console.print(f"{pair.b} - {pair.a}: {interval}, {tests}: {pair.verdict}", markup=False)
        for note in (f"they differ in {', '.join(pair.differs) or 'no setting'}", *pair.notes):
            console.print(f"  {note}", markup=False)
