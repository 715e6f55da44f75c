"""Report sections and overview of segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from opsin.ops.mask_pictures import (
    AGREED,
    CONFUSED,
    INVENTED,
    MISSED,
    UNCERTAINTY_STEPS,
    coloured,
    difference,
    overlaid,
    palette,
)
from opsin.report.blocks import class_names, per_split
from opsin.report.figures import confusion_figure, interval_bar, share_bar
from opsin.report.formats import is_number, number, percent
from opsin.report.render import Picture, Values, picture, render
from opsin.report.sections import NOT_SCORED, Section, score_words
from opsin.report.view import SplitResult, View, to_score
from opsin.types import JsonMapping

PARTS = {"iou": "IoU", "dice": "Dice", "precision": "Precision", "recall": "Recall", "boundary_f1": "Boundary F1"}
COLUMNS = ("image", "truth", "prediction", "difference", "overlay", "uncertainty")
ROWS_OF = ("best", "middling", "worst")
"""The kinds of images in the overview, one of each."""
SWATCH_PX = 12
VOID_COLOUR = (190, 190, 190)
SURE, UNSURE = np.array([255, 255, 255.0]), np.array([96, 20, 110.0])
"""Colours of a certain and of an uncertain pixel."""


def per_class(view: View) -> Markup | None:
    """IoU, Dice, precision, recall and boundary F1 of each class, with intervals."""

    def show(result: SplitResult) -> Values | None:
        rows = result.details.get("per_class") or []
        total = sum(row.get("support") or 0 for row in rows) or 1
        shown = [_class_row(row, k, total, result.name) for k, row in enumerate(rows)]
        return {"rows": shown, "tolerance": result.details.get("edge_tolerance")} if shown else None

    return per_split(view, "mask_classes.html", show, {"titles": tuple(PARTS.values())})


def _class_row(row: JsonMapping, k: int, total: int, role: str) -> Values:
    scores = [to_score(row.get(key)) for key in PARTS]
    return {
        "name": str(row.get("class", "")),
        "swatch": swatch(palette()[k]),
        "share": percent((row.get("support") or 0) / total),
        "images": row.get("images"),
        "cells": [(*score_words(score), interval_bar(score, 0.0, 1.0, role)) for score in scores],
    }


def confused(view: View) -> Markup | None:
    """Where the pixels of each class go: the largest confusions."""

    def show(result: SplitResult) -> Values | None:
        counts = np.asarray(result.details.get("confusion") or [], dtype=np.int64)
        if counts.ndim != 2 or counts.sum() == 0:
            return None
        names = class_names(view, len(counts))
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:10]
        pairs = [divmod(int(flat), len(counts)) for flat in order if wrong.flat[flat] > 0]
        rows = [
            {
                "true": names[i],
                "predicted": names[j],
                "share": percent(wrong[i, j] / counts[i].sum()),
                "pixels": number(int(wrong[i, j])),
                "bar": share_bar(wrong[i, j] / wrong.max(), result.name),
            }
            for i, j in pairs
        ]
        told = sum(wrong[pair] for pair in pairs) / max(1, wrong.sum())
        return {"rows": rows, "wrong": percent(wrong.sum() / counts.sum()), "told": percent(told)}

    return per_split(view, "mask_confusion.html", show, {})


def images(view: View) -> Markup | None:
    """Distribution of the scores of single images, and pictures of the worst, median and best."""

    def show(result: SplitResult) -> Values | None:
        spread = result.details.get("images") or {}
        if not spread.get("count"):
            return None
        largest = max([1, *spread["count"]])
        bins = zip(spread["edges"], spread["edges"][1:], spread["count"], strict=False)
        return {
            "bins": [
                (f"{percent(a, 0)} – {percent(b, 0)}", n, share_bar(n / largest, result.name)) for a, b, n in bins
            ],
            "quartiles": [percent(value) for value in spread.get("quartiles", [])],
            "void": percent(result.details.get("void_share")),
            "empty": result.details.get("empty"),
            "rows": image_rows(view, result),
        }

    return per_split(view, "mask_images.html", show, {"key": legend(view), "columns": COLUMNS})


def image_rows(view: View, result: SplitResult) -> list[Values]:
    """One row of pictures for each stored image."""
    parts = [view.gallery.get(f"shown{part}_{result.name}") for part in ("", "_truth", "_masks", "_uncertainty")]
    shown = result.details.get("shown") or []
    rows: list[Values] = []
    for entry, *arrays in zip(shown, *(part for part in parts if part is not None), strict=False):
        if len(arrays) == len(parts):
            iou = percent(entry.get("iou")) if is_number(entry.get("iou")) else "n/a"
            present = np.union1d(np.unique(arrays[1]), np.unique(arrays[2]))
            named = [(view.classes[k], swatch(palette()[k])) for k in present if k < len(view.classes)]
            rows.append({**entry, "iou": iou, "pictures": _pictures(view.classes, *arrays), "classes": named})
    return rows


def _pictures(
    classes: Sequence[str], image: np.ndarray, truth: np.ndarray, mask: np.ndarray, uncertainty: np.ndarray
) -> list[Picture]:
    """Image, truth, prediction, difference, overlay and uncertainty of one image."""
    background = 0 if classes and classes[0] == "background" else None
    return [
        picture(image),
        picture(coloured(truth)),
        picture(coloured(mask)),
        picture(difference(truth, mask, background=background)),
        picture(overlaid(image, mask, background=background)),
        picture(heat(uncertainty)),
    ]


def heat(uncertainty: np.ndarray) -> np.ndarray:
    """Uncertainty uint8 [h, w], 0 to 15, as colours uint8 [3, h, w]: white is certain, purple is not."""
    share = np.clip(uncertainty / UNCERTAINTY_STEPS, 0, 1)[..., None]
    colours: np.ndarray = np.rint(SURE + share * (UNSURE - SURE)).astype(np.uint8).transpose(2, 0, 1).copy()
    return colours


def swatch(colour: Sequence[int] | np.ndarray) -> Picture:
    """A small square of one colour."""
    square = np.empty((3, SWATCH_PX, SWATCH_PX), np.uint8)
    square[:] = np.asarray(colour, np.uint8)[:, None, None]
    return picture(square)


def legend(view: View) -> Values:
    """The legend of the colours of difference and uncertainty."""
    if view.classes[:1] == ("background",):
        colours = {
            "right foreground": AGREED,
            "missed foreground": MISSED,
            "false foreground": INVENTED,
            "one class for another": CONFUSED,
        }
    else:
        colours = {"right": AGREED, "wrong": CONFUSED}
    words = [(name, swatch(colour)) for name, colour in {**colours, "void": VOID_COLOUR}.items()]
    return {"legend": words, "unsure": swatch(UNSURE)}


SECTIONS = (
    Section(key="classes", title="Class by class", show=per_class, empty=NOT_SCORED),
    Section(key="confusion", title="Confusion", show=confused, empty=NOT_SCORED),
    Section(key="images", title="Image by image", show=images, empty=NOT_SCORED),
)


def overview(view: View, result: SplitResult) -> tuple[Markup, Markup]:
    """The figure of the overview, and one image of each kind."""
    rows = image_rows(view, result)
    chosen = [next((row for row in rows if row["kind"] == kind), None) for kind in ROWS_OF]
    shown = [row for row in chosen if row is not None] or rows[:3]
    pictures = render("overview_segment.html", {"rows": shown, "columns": COLUMNS, "key": legend(view)})
    return confusion_figure(np.asarray(result.details["confusion"], dtype=np.int64), view.classes), pictures
