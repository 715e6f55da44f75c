"""`opsin demo`: the three tasks on embedded data, in less than two minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, OutOption, QuietFlag
from opsin.cli.output import print_json, print_line

SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 20},
    "digit_scenes": {"scene_digits": "digits", "scenes": 4000, "epochs": 2, "batch_size": 100},
    "digit_masks": {"classes": "foreground", "epochs": 8},
}
"""What is trained, with settings smaller than those of `opsin train`, so that the demo ends soon."""
TITLE = "Three tasks, three networks"


def demo(
    *,
    out: OutOption = "runs",
    seed: Annotated[int, Parameter(help="Seed of everything random.")] = 0,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> int:
    """Train a network for each task on handwritten digits that come with scikit-learn, and write one report."""
    from opsin.cli.train import typed_command
    from opsin.progress import duration
    from opsin.report import write_overview, write_report
    from opsin.runs import next_name
    from opsin.tasks import get_task
    from opsin.training import train

    begun = time.monotonic()
    folder = Path(out) / next_name("demo", out)
    runs = []
    for data, settings in SETTINGS.items():
        run = train(
            data, name=data, out=folder, seed=seed, open_test=True, quiet=quiet, command=typed_command(), **settings
        )
        write_report(run)
        runs.append(run)
    words = (
        f"All three were trained from scratch on this machine, in {duration(time.monotonic() - begun)} from start to "
        "end, on handwritten digits that come with the software. The test split was opened once, for this page."
    )
    page = write_overview(runs, folder / "report.html", title=TITLE, words=words)
    if json_:
        print_json({"runs": [str(run.path) for run in runs], "report": str(page)})
        return 0
    for run in runs:
        task = get_task(run.task)
        score = run.scores["test"][task.main_score]
        share = f"{score.value:.2%} (95 % interval {score.low:.2%} to {score.high:.2%})"
        print_line(f"{run.path}: {task.score_kinds[task.main_score].title} {share} on test")
    print_line(f"report: {page.resolve()}")
    return 0
