"""The section on coverage and abstention: from the predictions on val, checked on test once opened."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from opsin.ops.conformal import conformal_threshold, coverage_interval, prediction_sets
from opsin.ops.selective import abstain_threshold, risk_coverage
from opsin.report.formats import percent
from opsin.report.render import Values, render
from opsin.report.sections import Section
from opsin.report.svg import Scale, drawing, element, nice_ticks, path, text
from opsin.report.view import View
from opsin.runs import Run

COVERAGES = (0.8, 0.9, 0.95, 0.99)
RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
WIDTH, HEIGHT = 330.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 30.0, 36.0
MOST_POINTS = 400


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Probabilities floating [N, K] and labels int64 [N] of a scored split."""

    probabilities: NDArray[np.floating]
    labels: NDArray[np.int64]

    @property
    def true_class(self) -> NDArray[np.floating]:
        """Probability of the true class, [N]."""
        found: NDArray[np.floating] = self.probabilities[np.arange(len(self.labels)), self.labels]
        return found

    @property
    def confidences(self) -> NDArray[np.floating]:
        """Probability of the predicted class, [N]."""
        found: NDArray[np.floating] = self.probabilities.max(axis=1)
        return found

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted class is the true one, [N]."""
        found: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.labels
        return found


def answering(view: View) -> Markup | None:
    """Prediction sets and abstention from val, and the risk-coverage curve."""
    if not (Path(view.folder) / "config.json").is_file():
        return None
    run = Run(view.folder)
    val, test = _split(run, "val"), _split(run, "test")
    if val is None:
        return None
    curves = {"val": val} | ({"test": test} if test is not None else {})
    values = {
        "figure": risk_figure(curves),
        "sets": [_set_row(val, test, coverage) for coverage in COVERAGES],
        "risks": [_risk_row(val, test, risk) for risk in RISKS],
        "n": len(val.labels),
        "test": test is not None,
        "folder": shlex.quote(view.folder),
    }
    return render("answering.html", values)


def _split(run: Run, name: Any) -> _Split | None:
    arrays = run.predictions(name)
    if "probabilities" not in arrays or not len(arrays.get("labels", ())):
        return None
    return _Split(probabilities=arrays["probabilities"], labels=arrays["labels"])


def _set_row(val: _Split, test: _Split | None, coverage: float) -> Values:
    threshold = conformal_threshold(val.true_class, coverage)
    sizes = prediction_sets(val.probabilities, threshold).sum(axis=1)
    return {
        "asked": percent(coverage, 0),
        "promised": " – ".join(percent(end) for end in coverage_interval(len(val.labels), coverage)),
        "test": "" if test is None else percent(float((test.true_class >= threshold).mean())),
        "size": f"{sizes.mean():.2f}",
        "one": percent(float((sizes == 1).mean())),
        "empty": percent(float((sizes == 0).mean())),
    }


def _risk_row(val: _Split, test: _Split | None, risk: float) -> Values:
    found = abstain_threshold(val.confidences, val.correct, risk)
    if found is None:
        return {"asked": percent(risk, 0)} | dict.fromkeys(("answered", "wrong", "test", "threshold"), "n/a")
    told = ""
    if test is not None:
        answered = test.confidences > found.threshold
        told = percent(float((~test.correct[answered]).mean())) if answered.any() else "n/a"
    return {
        "asked": percent(risk, 0),
        "answered": percent(found.coverage),
        "wrong": percent(found.risk),
        "test": told,
        "threshold": percent(found.threshold),
    }


def risk_figure(splits: Mapping[str, _Split]) -> Markup:
    """Risk over coverage as SVG, one line per split: the share of wrong answers among the most confident ones."""
    curves = {name: risk_coverage(split.confidences, split.correct) for name, split in splits.items()}
    # with few answers the risk fluctuates between 0 and 1
    kept = {name: _kept(len(curve.risk)) for name, curve in curves.items()}
    highest = max(float(curve.risk[kept[name]].max()) for name, curve in curves.items())
    ticks = nice_ticks(0.0, max(highest, 0.01))
    x = Scale(low=0.0, high=1.0, start=LEFT, end=WIDTH - RIGHT)
    y = Scale(low=0.0, high=ticks[-1], start=HEIGHT - BOTTOM, end=TOP)
    parts = [element("text", "Wrong among those answered, %", x=0, y=14, class_="title")]
    parts += [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(t), y2=y(t), class_="grid") for t in ticks]
    parts += [text(LEFT - 7, y(t) + 4, f"{100 * t:.6g}", anchor="end") for t in ticks]
    parts += [text(x(t), HEIGHT - BOTTOM + 17, f"{100 * t:.0f}", anchor="middle") for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts.append(
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "images answered, %, most confident first", "name", "middle")
    )
    for number, (name, curve) in enumerate(curves.items()):
        rows = kept[name]
        points = [(x(float(curve.coverage[i])), y(float(curve.risk[i]))) for i in rows]
        parts.append(path(points, f"line {name}"))
        parts.append(text(LEFT + 10, TOP + 12 + 14 * number, f"{name}: area {curve.area:.4f}", f"direct {name}"))
    return drawing(WIDTH, HEIGHT, *parts, label="Share of wrong answers over the share of images answered")


def _kept(count: int) -> NDArray[np.int64]:
    """Indices of the drawn points."""
    first = min(count - 1, max(9, count // 100))
    return np.unique(np.linspace(first, count - 1, min(count, MOST_POINTS)).astype(np.int64))


ANSWERING = Section(key="answering", title="Coverage and abstention", show=answering, empty="Val was not scored.")
"""For every task with one class per image."""
