"""`opsin explain`: what a network has learned, and which pixels its predictions depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, OutOption, QuietFlag, RootOption, SeedOption
from opsin.cli.output import print_json, print_line, stdout_console
from opsin.types import JsonDict


def explain(
    run: str,
    /,
    *images: Path,
    method: Annotated[
        tuple[
            Literal[
                "grad-cam",
                "saliency",
                "integrated-gradients",
                "occlusion",
                "maps",
                "filters",
                "receptive-fields",
                "all",
            ],
            ...,
        ],
        Parameter(
            help="What to draw; can be repeated. By default grad-cam, which takes seconds; with --layer also its "
            "feature maps; without an image filters and receptive-fields.",
            negative="",
        ),
    ] = (),
    mistakes: Annotated[
        bool, Parameter(negative="", help="Explain the run's worst mistakes on val; needs its data set.")
    ] = False,
    count: Annotated[int, WHOLE, Parameter(help="Number of mistakes (--mistakes).")] = 8,
    layer: Annotated[
        tuple[str, ...], Parameter(help="Layers whose feature maps are drawn; by default a few.", negative="")
    ] = (),
    class_: Annotated[
        str | None, Parameter(name="--class", help="The class to explain; by default the predicted one.")
    ] = None,
    neurons: Annotated[
        str | None, Parameter(help="Layer whose channels' top-activating patches in the data set are drawn.")
    ] = None,
    data: Annotated[str | None, Parameter(help="Data set for --neurons; by default the run's own.")] = None,
    split: Annotated[Literal["train", "val"], Parameter(help="Split for --neurons.")] = "val",
    patches: Annotated[int, WHOLE, Parameter(help="Patches per channel.")] = 8,
    root: RootOption = None,
    figures: Annotated[Path, Parameter(help="Folder for the figures.")] = Path("explained"),
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Draw attributions of the prediction for each image, filters, feature maps and receptive fields.

    Parameters
    ----------
    run
        Run by path or name.
    images
        Image files, and folders of them.
    """
    from opsin.api.verbs import explain as explain_run
    from opsin.config import require

    require(count > 0, "count", count, "more than 0")
    found = explain_run(
        run,
        *images,
        figures=figures,
        methods=method,
        layers=layer,
        label=class_,
        mistakes=count if mistakes else 0,
        neurons=neurons,
        data=data,
        root=root,
        split=split,
        patches=patches,
        out=out,
        quiet=quiet,
    )
    if json_:
        print_json(found.to_dict())
    elif not quiet:
        if fields := found.numbers.get("receptive_fields"):
            show(fields)
        print_line("\n".join(found.files))
    return 0


def show(fields: list[JsonDict]) -> None:
    """Print the receptive field of every layer as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("layer", "kind", "output", "field, px", "stride, px", "effective px"):
        table.add_column(heading, overflow="fold")
    for field in fields:
        size = "x".join(map(str, field["output_shape"]))
        reach = "unknown" if field["theoretical"] is None else "{} x {}".format(*field["theoretical"])
        stride = "unknown" if field["stride"] is None else f"{field['stride'][0]:g}"
        effective = "n/a" if field["effective_px"] is None else f"{field['effective_px']:.1f}"
        table.add_row(field["layer"], field["kind"], size, reach, stride, effective)
    stdout_console(highlight=False, soft_wrap=True).print(table)
