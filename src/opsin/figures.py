"""Matplotlib figures as files: one style, without a display, written atomically."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.io.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "image.interpolation": "auto",
}


@contextmanager
def figure_to(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches to draw into; written to the PNG file `path` when the block ends.

    Raises:
        WriteError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        buffer = io.BytesIO()
        # tight: the layout leaves some colour bar labels outside of the figure, and white elsewhere
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.08)
    write_atomically(path, buffer.getvalue())
