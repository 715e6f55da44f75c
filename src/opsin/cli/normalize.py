"""`opsin normalize`: compare normalizations of the input on a data set."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import FLAT, NONE_GIVEN, WHOLE, DataArgument, JsonFlag, QuietFlag, RootOption, Settings, given
from opsin.cli.output import print_json, print_line


def normalize(
    data: DataArgument,
    /,
    *,
    seeds: Annotated[int, WHOLE, Parameter(help="Runs of each normalization.")] = 3,
    root: RootOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    settings: Annotated[Settings, FLAT] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Train short runs that differ only in the normalization, and compare them on val.

    The network is a plain CNN without batch norm, trained for 2 epochs, unless --model and --epochs say otherwise.
    """
    from opsin.studies.normalization import compare_normalizations

    answer = compare_normalizations(data, seeds=seeds, root=root, quiet=quiet, **given(settings))
    if json_:
        print_json({"data": data, **asdict(answer)})
        return 0
    print_line(answer.network)
    print_line("normalization     val score      sd  pixels 0 and 255 become, then mean and sd removed")
    for result in answer.results:
        mean, std = (" ".join(f"{x:.3f}" for x in values) for values in (result.channel_mean, result.channel_std))
        low, high = result.range
        mean_score, spread = _score(result.mean), _score(result.sd)
        print_line(f"{result.normalize:<14} {mean_score:>12}  {spread:>6}  {low:g}, {high:g}; mean {mean}; sd {std}")
    print_line(answer.verdict)
    return 0


def _score(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.4f}"
