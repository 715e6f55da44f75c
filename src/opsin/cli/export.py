"""`opsin export`: a trained network as one file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag, RootOption, SeedOption
from opsin.cli.output import print_json, print_line

if TYPE_CHECKING:
    from opsin.exports.exporting import Exported


def export(
    run: str,
    /,
    *,
    format: Annotated[
        Literal["onnx", "torch"], Parameter(help="`onnx`, for ONNX Runtime, or `torch`, a torch.export program.")
    ] = "onnx",
    out: Annotated[
        Path | None,
        Parameter(help="New folder, or a file ending in .onnx or .pt2; by default the folder NAME-FORMAT."),
    ] = None,
    int8: Annotated[
        bool,
        Parameter(negative="", help="Also write a quantized file, and report its cost on val (ONNX, in a folder)."),
    ] = False,
    page: Annotated[
        Path | None,
        Parameter(help="Package onnxruntime-web, as `npm pack` leaves it: its files go beside the page (ONNX)."),
    ] = None,
    root: RootOption = None,
    runs: Annotated[str, Parameter(help="Folder of runs.")] = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Export a network, check that the file gives the same outputs, and time both.

    Parameters
    ----------
    run
        Run by path or name, or a model folder.
    """
    from opsin.api.deployment import export as export_run

    made = export_run(run, format=format, file=out, int8=int8, page=page, root=root, out=runs, quiet=quiet)
    if json_:
        print_json(made.to_json())
    elif not quiet:
        _print(made)
    return 0


def _print(made: Exported) -> None:
    from opsin.units import bytes_text

    print_line(f"{made.file}: {bytes_text(made.size_bytes)}")
    worst = ", ".join(f"{name} {value:.2g}" for name, value in made.differences.items())
    print_line(f"largest difference on the golden images: {worst}")
    print_line(f"one image, and batches of 32, threads: {made.threads}")
    print_line(f"  {'file':<9}{made.speed}")
    print_line(f"  {'PyTorch':<9}{made.pytorch}")
    if made.int8 is not None:
        found = made.int8
        print_line(f"  {'int8':<9}{found.speed}; {bytes_text(found.size_bytes)}")
        print_line(f"{found.main_score} on val (n = {found.num_val:,}): {found.before} -> {found.after}")
        print_line(f"change by int8: {found.change}")
    if made.folder is not None and made.format == "onnx":
        print_line(f"try it: python {made.folder / 'predict.py'} PHOTO")
        print_line(f"or in a browser: python -m http.server --bind 127.0.0.1 --directory {made.folder}")
