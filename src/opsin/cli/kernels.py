"""`opsin kernels`: what a classical filter makes of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line

if TYPE_CHECKING:
    from opsin.explain.kernels import Filtered


def kernels(
    image: Path | None = None,
    /,
    *,
    kernel: Annotated[
        str, Parameter(help='gaussian:HxW,sigma=S, sobel-x, sobel-y, laplacian, sharpen, or a matrix "[[…], […]]".')
    ] = "sobel-x",
    gray: Annotated[bool, Parameter(negative="", help="Take the image as grey.")] = False,
    out: Annotated[Path, Parameter(help="Where the figure is written, a PNG.")] = Path("kernels.png"),
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Apply a filter to an image: full, same and valid; as convolution and as a CNN's cross-correlation.

    Parameters
    ----------
    image
        An image file; without it an embedded photo is taken.
    """
    from opsin.explain.kernel_figure import draw_kernels
    from opsin.explain.kernels import apply, parse_kernel, sample_image, to_gray
    from opsin.io.images import read_image

    filter_ = parse_kernel(kernel)
    decoded = read_image(image) if image else None
    pixels = decoded.pixels if decoded else sample_image()
    name, notes = (str(image), list(decoded.notes)) if decoded else ("sample", ["scikit-learn's china.jpg"])
    result = apply(to_gray(pixels) if gray else pixels, filter_)
    draw_kernels(result, out, title=Path(name).name)
    found = result.to_dict()
    found["input"] = {"file": name, "notes": notes} | found["input"]
    if json_:
        print_json(found | {"file": str(out)})
    elif not quiet:
        print_line("\n".join(lines(result)))
        print_line(out)
    return 0


def lines(result: Filtered) -> list[str]:
    """The sizes in words."""
    _, height, width = result.image.shape
    rows, columns = result.kernel.shape
    found = [f"input {height} x {width}, kernel {result.kernel.name} {rows} x {columns}"]
    for mode, maps in result.convolved.items():
        found.append(f"{mode:<6} {maps.shape[1]} x {maps.shape[2]}   values {maps.min():.4g} to {maps.max():.4g}")
    if "valid" not in result.convolved:
        found.append("valid  none: the kernel is larger than the image")
    difference = result.to_dict()["largest_difference"]
    found.append(f"cross-correlation (what a CNN layer computes) differs by at most {difference:.4g}")
    stacked = " -> ".join(f"{h}x{w}" for h, w in result.stacked())
    return [*found, f"stacked valid layers: {height}x{width} -> {stacked or 'none'}"]
