"""`opsin demo`: the main job on embedded data, in less than a minute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag


def demo(
    *,
    out: Annotated[str, Parameter(help="Folder of runs.")] = "runs",
    seed: Annotated[int, Parameter(help="Seed of everything random.")] = 0,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> int:
    """Train a classifier on handwritten digits that come with scikit-learn, and write its report."""
    from opsin.cli.train import typed_command
    from opsin.report import write_report
    from opsin.runs import next_name
    from opsin.training import train

    name = next_name("demo-digits", out)
    run = train("digits", name=name, out=out, seed=seed, open_test=True, quiet=quiet, command=typed_command())
    page = write_report(run)
    if json_:
        print(json.dumps({"runs": [str(run.path)], "report": str(page)}, indent=2))
        return 0
    accuracy = run.scores["test"]["scores"]["accuracy"]
    print(f"test accuracy {accuracy['value']:.2%} (95 % interval {accuracy['low']:.2%} to {accuracy['high']:.2%})")
    print(f"report: {Path(page).resolve()}")
    return 0
