"""`opsin bench`: how fast this machine is, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line, stdout_console
from opsin.config import require

if TYPE_CHECKING:
    from opsin.planning.bench import ConvBench

app = cyclopts.App(name="bench", help="Time convolutions on the devices of this machine.")


@app.command
def conv(
    *,
    repeats: Annotated[int, WHOLE, Parameter(help="Timed calls of each case.")] = 10,
    side: Annotated[int, WHOLE, Parameter(help="Side of the images in pixels.")] = 100,
    out: Annotated[Path, Parameter(help="Where the roofline figure is written, a PNG.")] = Path("roofline.png"),
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Time 32 filters of 7x7x3 over batches of 100 and of 2 images, on every device, precision and memory format."""
    from opsin.planning.bench import bench_conv
    from opsin.planning.roofline import draw_roofline

    require(2 <= repeats <= 1000, "repeats", repeats, "2 to 1000")
    require(7 <= side <= 1000, "side", side, "7 to 1000")
    bench = bench_conv(repeats=repeats, side=side)
    draw_roofline(bench, out)
    if json_:
        print_json(asdict(bench) | {"file": str(out)})
    elif not quiet:
        show(bench)
        print_line(out)
    return 0


def show(bench: ConvBench) -> None:
    """Print the times as a table, then the notes on them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "precision", "channels", "batch", "ms", "quartiles", "images/s", "Gflop/s"):
        table.add_column(heading, no_wrap=True)
    for row in bench.results:
        case = (row.device, row.precision, row.memory_format.removeprefix("channels "), str(row.batch))
        if row.median_s is None or row.low_s is None or row.high_s is None:
            table.add_row(row.device, row.precision, "both", str(row.batch), "", "skipped")
            continue
        table.add_row(
            *case,
            f"{1e3 * row.median_s:.3g}",
            f"{1e3 * row.low_s:.3g} to {1e3 * row.high_s:.3g}",
            f"{row.images_per_second:,.0f}",
            f"{(row.flops_per_second or 0) / 1e9:.1f}",
        )
    console = stdout_console(highlight=False, soft_wrap=True)
    console.print(table)
    for note in bench.notes:
        console.print(f"{note}.", markup=False)
