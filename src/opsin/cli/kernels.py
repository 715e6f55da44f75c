"""`opsin kernels`: a classical filter applied to an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line

if TYPE_CHECKING:
    from opsin.explanation.kernels import Filtered


def kernels(
    image: Path | None = None,
    /,
    *,
    kernel: Annotated[
        str, Parameter(help='gaussian:HxW,sigma=S, sobel-x, sobel-y, laplacian, sharpen, or a matrix "[[…], […]]".')
    ] = "sobel-x",
    gray: Annotated[bool, Parameter(negative="", help="Convert the image to greyscale.")] = False,
    out: Annotated[Path, Parameter(help="Where the figure is written, a PNG.")] = Path("kernels.png"),
    picture: Annotated[
        Path | None,
        Parameter(
            help="Also write the convolved image alone, a PNG of the image's size. For kernels of sum 0 (edges) it is "
            "grey: 128 for no response, brighter above."
        ),
    ] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Apply a filter to an image: full, same and valid; as convolution and as a CNN's cross-correlation.

    Parameters
    ----------
    image
        An image file; by default an embedded photo.
    """
    from opsin.explanation.kernel_figure import draw_kernels
    from opsin.explanation.kernels import apply, filtered_picture, parse_kernel, sample_image, to_gray
    from opsin.io.files import write_atomically
    from opsin.io.images import encode_png, read_image

    filter_ = parse_kernel(kernel)
    _keep_image(image, out, picture)
    decoded = read_image(image) if image else None
    pixels = decoded.pixels if decoded else sample_image()
    name, notes = (str(image), list(decoded.notes)) if decoded else ("sample", ["scikit-learn's china.jpg"])
    result = apply(to_gray(pixels) if gray else pixels, filter_)
    draw_kernels(result, out, title=Path(name).name)
    if picture is not None:
        write_atomically(picture, encode_png(filtered_picture(result)))
    found = result.to_dict()
    found["input"] = {"file": name, "notes": notes} | found["input"]
    if json_:
        print_json(found | {"file": str(out), "picture": None if picture is None else str(picture)})
    elif not quiet:
        print_line("\n".join(lines(result)))
        for file in filter(None, (out, picture)):
            print_line(file)
    return 0


def _keep_image(image: Path | None, *outputs: Path | None) -> None:
    """Refuse outputs whose name does not end in .png, or that would overwrite the image.

    Raises:
        ConfigError: naming the output.
    """
    from opsin.errors import ConfigError

    for output in filter(None, outputs):
        if output.suffix.lower() != ".png":
            raise ConfigError("the output is not named as a PNG", got=str(output), expected="a name ending in .png")
        if image is not None and output.resolve() == image.resolve():
            raise ConfigError("the output would overwrite the image", got=str(output), do="give it another name")


def lines(result: Filtered) -> list[str]:
    """The sizes, one line each."""
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
