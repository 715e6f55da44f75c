"""Report sections and overview of localization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from opsin.ops.box_pictures import PREDICTED, TRUE, draw_box, enlarge
from opsin.report.answering import ANSWERING
from opsin.report.blocks import NUM_CARDS, confusion, per_split
from opsin.report.curves import Panel, line_figure, series_of
from opsin.report.formats import number, percent
from opsin.report.render import Picture, Values, picture, render
from opsin.report.sections import NOT_SCORED, Section
from opsin.report.svg import Scale, drawing, element, path, text
from opsin.report.view import SplitResult, View, to_score
from opsin.types import JsonMapping

KINDS = {
    "worst": "Worst boxes",
    "best": "Best boxes",
    "random": "Random boxes, neither the best nor the worst",
}
CURVES = (("good_boxes", "val", "box good"), ("joint_accuracy", "plain", "and class right"))
PANELS = (
    ("class_loss", "Loss of the class", False),
    ("box_loss", "Loss of the box", False),
    ("mean_iou", "Mean IoU", True),
)
ERRORS = {"centre_px": "Centre, px", "size_px": "Width and height, px", "one_minus_iou": "1 - IoU"}
ENLARGED_PX = 150
"""Least side of pictures with boxes in pixels, so that lines do not hide the objects."""


def losses(view: View) -> Markup | None:
    """The two losses and the overlap over epochs, one figure each."""
    figures = []
    for key, title, share in PANELS:
        series = tuple(series_of(view.epochs, split, split, key, split=split) for split in ("train", "val"))
        panel = Panel(title=title, unit="%" if share else "", series=series, share=share)
        if panel.values:
            figures.append(line_figure(panel, best=view.best_epoch, events=view.events))
    weights = [(epoch.epoch, epoch.train) for epoch in view.epochs if "class_weight" in epoch.train]
    if not figures:
        return None
    learned = [(epoch, number(t["class_weight"]), number(t["box_weight"])) for epoch, t in weights]
    return render("box_losses.html", {"figures": figures, "learned": learned[-1:], "settings": view.config["train"]})


def boxes(view: View) -> Markup | None:
    """Good and bad boxes, the curve over thresholds, and the box errors."""

    def show(result: SplitResult) -> Values | None:
        details = result.details
        if "curve" not in details:
            return None
        total = max(1, result.num_samples)
        return {
            "figure": threshold_figure(details["curve"], details["threshold"]),
            "threshold": details["threshold"],
            "good": details["good"],
            "bad": details["bad"],
            "outcomes": [(name, count, percent(count / total)) for name, count in details["outcomes"].items()],
            "errors": [(title, details["errors"][key]) for key, title in ERRORS.items() if key in details["errors"]],
            "bias": details["bias"],
        }

    return per_split(view, "boxes.html", show, {})


def threshold_figure(curve: Mapping[str, Sequence[Any]], threshold: float) -> Markup:
    """Shares of good boxes, and of good boxes with the right class, over the IoU that counts as good.

    Args:
        curve: "thresholds", and "good_boxes" and "joint_accuracy" with their ends "_low" and "_high".
        threshold: the IoU threshold of the scores.
    """
    x, y = Scale(low=0, high=1, start=44, end=400), Scale(low=0, high=1, start=250, end=30)
    parts = [text(0, 13, "Good boxes", "title"), text(400, 13, "share of images, %", "name", "end")]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(element("line", x1=44, x2=400, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(text(38, y(tick) + 4, f"{100 * tick:.0f}", "tick", "end"))
        parts.append(text(x(tick), 267, f"{tick:.1f}", "tick", "middle"))
    parts.append(element("line", x1=x(threshold), x2=x(threshold), y1=y(0), y2=y(1), class_="best"))
    parts.append(text(x(threshold) - 5, 45, f"scores at {threshold:g}", "mark", "end"))
    thresholds = curve["thresholds"]
    for row, (key, role, name) in enumerate(CURVES):
        for t, low, high in zip(thresholds, curve[f"{key}_low"], curve[f"{key}_high"], strict=True):
            if low is not None and high is not None:
                parts.append(element("line", x1=x(t), x2=x(t), y1=y(low), y2=y(high), class_="whisker"))
        parts.append(path([(x(t), y(v)) for t, v in zip(thresholds, curve[key], strict=True)], f"line {role}"))
        parts.append(text(98 + 68 * row, 13, name, f"direct {role}"))
    parts.append(text(222, 288, "least IoU of a good box", "name", "middle"))
    return drawing(412, 296, *parts, label="Share of good boxes over the threshold of IoU")


def per_class(view: View) -> Markup | None:
    """Class, box and both, class by class."""

    def show(result: SplitResult) -> Values | None:
        rows = result.details.get("per_class") or []
        if not rows:
            return None
        keys = ("accuracy", "good_boxes", "joint_accuracy")
        told = [{**row, "cells": [_cell(row.get(key)) for key in keys]} for row in rows]
        return {"rows": told}

    return per_split(view, "box_classes.html", show, {})


def _cell(value: object) -> tuple[str, str]:
    score = to_score(value)
    return percent(score.value), f"{percent(score.low)} – {percent(score.high)}"


def gallery(view: View) -> Markup | None:
    """The worst, the best and random boxes: true box and predicted box, with IoU."""

    def show(result: SplitResult) -> Values | None:
        cards = box_cards(view, result)
        groups = [(title, [card for card in cards if card["kind"] == kind]) for kind, title in KINDS.items()]
        return {"groups": [(title, group) for title, group in groups if group]} if cards else None

    return per_split(view, "box_gallery.html", show, {})


def box_cards(view: View, result: SplitResult) -> list[Values]:
    """The samples of a split's gallery, each with its picture; [] if none were stored."""
    shown = result.details.get("mistakes") or []
    images = view.gallery.get(f"mistakes_{result.name}", np.empty(0))
    if not shown or "box" not in shown[0]:
        return []
    size = result.details.get("image_size")
    return [
        {**sample, "picture": _picture(images[i], sample, size) if i < len(images) else None}
        for i, sample in enumerate(shown)
    ]


def _picture(pixels: np.ndarray, sample: JsonMapping, size: Sequence[int] | None) -> Picture:
    """A thumbnail with the true box and the predicted one; boxes are in pixels of the image of `size`."""
    large, factor = enlarge(np.repeat(pixels, 3 // len(pixels), axis=0), ENLARGED_PX)
    height, width = size or pixels.shape[1:]
    scale = factor * np.array([pixels.shape[2] / width, pixels.shape[1] / height] * 2)
    drawn = draw_box(large, np.array(sample["true_box"]) * scale, TRUE)
    return picture(draw_box(drawn, np.array(sample["box"]) * scale, PREDICTED))


SECTIONS = (
    Section(key="losses", title="Class and box apart", show=losses, empty="No epoch was finished."),
    Section(key="boxes", title="Boxes", show=boxes, empty=NOT_SCORED),
    Section(key="classes", title="Class by class", show=per_class, empty=NOT_SCORED),
    Section(key="confusion", title="Confusion", show=confusion, empty=NOT_SCORED),
    Section(key="gallery", title="True and predicted boxes", show=gallery, empty=NOT_SCORED),
    ANSWERING,
)


def overview(view: View, result: SplitResult) -> tuple[Markup, Markup]:
    """The figure of the overview, with random boxes and the worst ones."""
    cards = box_cards(view, result)
    kinds = (("random", "Random images"), ("worst", "The worst boxes"))
    groups = [(title, [card for card in cards if card["kind"] == kind][: NUM_CARDS // 2]) for kind, title in kinds]
    pictures = render("overview_localize.html", {"groups": [(title, group) for title, group in groups if group]})
    return threshold_figure(result.details["curve"], result.details["threshold"]), pictures
