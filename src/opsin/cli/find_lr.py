"""`opsin find-lr`: the learning-rate range test."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import (
    FLAT,
    NONE_GIVEN,
    WHOLE,
    DataArgument,
    JsonFlag,
    QuietFlag,
    RecipeOption,
    RootOption,
    Settings,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, print_line


def find_lr(
    data: DataArgument,
    /,
    *,
    steps: Annotated[int, WHOLE, Parameter(help="Steps of the range test.")] = 100,
    root: RootOption = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    settings: Annotated[Settings, FLAT] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Learning-rate range test: raise the rate over a short discarded run, and suggest one."""
    from opsin.studies.lr_finder import find_lr as find

    asked = {"task": task} if task else {}
    curve = find(data, steps=steps, root=root, recipe=recipe, quiet=quiet, **asked, **given(settings))
    if json_:
        print_json({"data": data, **asdict(curve)})
        return 0
    for rate, loss in list(zip(curve.rates, curve.losses, strict=True))[:: max(1, len(curve.rates) // 20)]:
        print_line(f"{rate:10.2e}  loss {loss:.4f}")
    print_line(f"suggestion: --lr {curve.suggestion:g}")
    return 0
