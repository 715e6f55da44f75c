"""`opsin convert`: a trained network made fully convolutional, for images of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, OutOption, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line
from opsin.errors import ConfigError
from opsin.types import JsonDict


def convert(
    run: str,
    /,
    *,
    fully_convolutional: Annotated[bool, Parameter(negative="", help="Replace dense layers by convolutions.")] = False,
    image: Annotated[
        Path | None, Parameter(help="A photo: draw a heat map of the prediction at every position.")
    ] = None,
    short_side: Annotated[
        int | None, WHOLE, Parameter(help="Short side to which the photo is resized, in pixels.")
    ] = None,
    figure: Annotated[Path, Parameter(help="Where the heat map is written, a PNG.")] = Path("map.png"),
    name: Annotated[str | None, Parameter(help="Name of the new run.")] = None,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Make a new run whose network takes images of any size, and check that its outputs are equal.

    Parameters
    ----------
    run
        Run by path or name.
    """
    from opsin.api.verbs import convert as convert_run
    from opsin.explanation.any_size import draw_map, map_predictions

    if not fully_convolutional:
        raise ConfigError("no conversion was named", expected="--fully-convolutional", do="add --fully-convolutional")
    if short_side is not None and not 1 <= short_side <= 4096:
        raise ConfigError("the size is out of range", where="--short-side", got=short_side, expected="1 to 4096")
    converted = convert_run(run, name=name, out=out)
    found: JsonDict = {
        "run": str(converted.run.path),
        "max_difference": converted.max_difference,
        "largest_output": converted.largest_output,
    }
    if image is not None:
        made = map_predictions(converted.artifact, image, short_side=short_side)
        draw_map(made, figure, title=f"{converted.run.name}: {image.name}")
        found |= {"map": made.to_dict(), "file": str(figure)}
    if json_:
        print_json(found)
    elif not quiet:
        print_line(f"{found['run']}: largest difference at the training size {converted.max_difference:.3g}")
        if image is not None:
            print_line(figure)
    return 0
