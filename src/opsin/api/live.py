"""Live learning curves in a notebook during training."""

from __future__ import annotations

import sys
from typing import Any

from markupsafe import Markup

from opsin.report.curves import Panel, Series, line_figure
from opsin.report.render import source
from opsin.training.engine.hooks import Callback, EpochContext


class LiveCurves(Callback):
    """Draws loss and main score after each epoch, replacing the previous drawing.

    Args:
        display: `IPython.display.display` of the notebook.
    """

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._epochs: list[EpochContext] = []

    def on_epoch(self, epoch: EpochContext) -> None:
        """Draw the curves up to this epoch."""
        self._epochs.append(epoch)
        page = curves_html(self._epochs)
        if self._handle is None:
            self._handle = self._display(_Html(page), display_id=True)
        else:
            self._handle.update(_Html(page))


class _Html:
    """HTML that a notebook displays."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def curves_html(epochs: list[EpochContext]) -> str:
    """Loss and scores over the epochs so far, as HTML without scripts or external resources."""
    panels = [Panel(title="Loss", unit="", series=_series(epochs, "loss"))]
    shared = [key for key in epochs[-1].train if key in epochs[-1].val and key != "loss"]
    panels += [Panel(title=key, unit="", series=_series(epochs, key)) for key in shared[:1]]
    figures = Markup("").join(line_figure(panel) for panel in panels)
    style = Markup(source("figures.css") + source("notebook.css"))
    last = epochs[-1]
    head = f"epoch {last.epoch} of {last.num_epochs}, {last.seconds:.0f} s"
    return f"<style>{style}</style><div class='opsin'><p>{head}</p>{figures}</div>"


def notebook_callbacks() -> list[Callback]:
    """Live curves where the code runs in a Jupyter notebook; nothing elsewhere."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    if type(found).__name__ != "ZMQInteractiveShell":
        return []
    return [LiveCurves(sys.modules["IPython.display"].display)]


def _series(epochs: list[EpochContext], key: str) -> tuple[Series, ...]:
    parts = {
        "train": [(float(e.epoch), e.train[key]) for e in epochs if key in e.train],
        "val": [(float(e.epoch), e.val[key]) for e in epochs if key in e.val],
    }
    return tuple(Series(name=name, role=name, points=tuple(points)) for name, points in parts.items() if points)
