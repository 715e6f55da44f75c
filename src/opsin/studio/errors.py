"""Where a network fails: the confusion of classes, whose cells open the pictures behind them, and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from opsin.errors import OpsinError
from opsin.ops.boxes import iou
from opsin.report.figures import row_shares
from opsin.runs import Run
from opsin.server.refusal import RequestError
from opsin.studio.data import LARGE_PX, sample_picture
from opsin.studio.pages import address, choice, page, pager, whole
from opsin.studio.state import studio_of
from opsin.studio.verdicts import can_be_relabelled, chosen_of, said_of

SHADES = 8
LARGEST_MATRIX = 40
SHOWN = ("wrong", "all", "right")
ORDERS = ("surest first", "least sure first")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a network said of each of N images of a split.

    `ids`: what a person calls them. `labels`, `predicted`: int64 [N]. `scores`: float [N], the probability of
    `predicted`. `overlaps`: float [N], the IoU of the boxes, where there are any.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    overlaps: np.ndarray | None = None


def errors(request: Request) -> Response:
    """The matrix of val and the pictures that the filters leave."""
    studio = studio_of(request)
    run = studio.runs.get(request.path_params["name"])
    answers, classes = answers_of(run), run.data.classes
    query = request.query_params
    truth, guess = (whole(query, name, -1, low=-1, high=len(classes) - 1) for name in ("true", "predicted"))
    shown, order = choice(query, "show", SHOWN), choice(query, "order", ORDERS)
    if truth >= 0 and truth == guess:
        shown = "right"
    most = whole(query, "iou", 100, low=0, high=100)
    numbers = chosen(answers, truth=truth, guess=guess, shown=shown, surest=order == ORDERS[0], most_iou=most / 100)
    pages = pager(request, len(numbers), 40)
    pictures, why = _pictures(studio, run)
    cells = [_cell(run.name, classes, answers, int(i), pictures) for i in numbers[pages.span.start : pages.span.stop]]
    relabels = not why and can_be_relabelled(run)
    verdicts = chosen_of(studio, run, studio.runs.dataset(run.name)) if relabels else {}
    values: dict[str, Any] = {
        "name": run.name,
        "classes": classes,
        "cells": cells,
        "pager": pages,
        "truth": truth,
        "guess": guess,
    }
    values |= {"show": shown, "order": order, "shows": SHOWN, "orders": ORDERS, "why": why, "iou": most}
    values |= {"boxes": answers.overlaps is not None, "matrix": matrix(answers, len(classes)) if classes else []}
    values |= {"relabels": relabels, "verdicts": verdicts, "said": said_of(studio, run) if relabels else None}
    more = {"true": truth, "predicted": guess, "show": shown, "order": order, "iou": most}
    return page(request, "errors.html", more=address("x", **more).partition("?")[2], **values)


def answers_of(run: Run) -> Answers:
    """What the network of a run said of val.

    Raises:
        RequestError: 404, nothing is stored, or its task decides no class.
    """
    found = run.predictions("val")
    if "probabilities" not in found or "labels" not in found or not run.data.classes:
        raise RequestError(404, "this run has no stored answers of one class for each image", got=run.name)
    probabilities = found["probabilities"]
    overlaps = iou(found["boxes"], found["true_boxes"]) if {"boxes", "true_boxes"} <= found.keys() else None
    return Answers(
        ids=found["ids"],
        labels=found["labels"],
        predicted=probabilities.argmax(axis=1),
        scores=probabilities.max(axis=1),
        overlaps=overlaps,
    )


def chosen(answers: Answers, *, truth: int, guess: int, shown: str, surest: bool, most_iou: float = 1.0) -> np.ndarray:
    """Numbers of the samples that the filters leave, in order; -1 leaves a class open."""
    kept = np.ones(len(answers.labels), bool)
    if truth >= 0:
        kept &= answers.labels == truth
    if guess >= 0:
        kept &= answers.predicted == guess
    right = answers.labels == answers.predicted
    kept &= {"wrong": ~right, "right": right, "all": np.ones_like(right)}[shown]
    if answers.overlaps is not None and most_iou < 1:
        kept &= answers.overlaps <= most_iou
    numbers = np.flatnonzero(kept)
    scores = answers.scores[numbers]
    return numbers[np.argsort(-scores if surest else scores, kind="stable")]


def matrix(answers: Answers, num_classes: int) -> list[list[dict[str, Any]]]:
    """Cells of the confusion: count, shade 0 to `SHADES` by the share of the true class, whether it is right.

    Empty for more than `LARGEST_MATRIX` classes.
    """
    if num_classes > LARGEST_MATRIX:
        return []
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (answers.labels, answers.predicted), 1)
    shades = np.ceil(np.sqrt(row_shares(counts)) * SHADES).astype(int)
    return [
        [{"count": int(counts[i, j]), "shade": int(shades[i, j]), "right": i == j} for j in range(num_classes)]
        for i in range(num_classes)
    ]


def image(request: Request) -> Response:
    """A picture of the run's val."""
    name = request.path_params["name"]
    return sample_picture(request, studio_of(request).runs.dataset(name), "val")


def _pictures(studio: Any, run: Run) -> tuple[dict[str, int], str]:
    """Number of each sample in val by its id; or why there are no pictures."""
    try:
        dataset = studio.runs.dataset(run.name)
    except OpsinError as error:
        return {}, error.what
    return {str(sample): i for i, sample in enumerate(dataset.splits["val"].ids)}, ""


def _cell(name: str, classes: Sequence[str], answers: Answers, i: int, pictures: dict[str, int]) -> dict[str, Any]:
    key = str(answers.ids[i])
    number = pictures.get(key)
    small = None if number is None else address("runs", name, "image", number)
    large = None if number is None else address("runs", name, "image", number, side=LARGE_PX)
    return {
        "id": key,
        "number": number,
        "label": int(answers.labels[i]),
        "small": small,
        "large": large,
        "truth": classes[int(answers.labels[i])],
        "guess": classes[int(answers.predicted[i])],
        "right": bool(answers.labels[i] == answers.predicted[i]),
        "score": float(answers.scores[i]),
        "iou": None if answers.overlaps is None else float(answers.overlaps[i]),
    }
