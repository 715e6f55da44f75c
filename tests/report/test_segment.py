"""The report of a segmentation: what it says of confused classes is true of the counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from opsin.report.view import SplitResult, View
from opsin.runs import DataCard, Environment, SplitScores, Summary
from opsin.tasks.segment.report import confused


def view_of_confusion(counts: np.ndarray) -> View:
    """A run with nothing but the pixels of each true class (rows) by predicted class."""
    details: dict[str, Any] = {"confusion": counts.tolist()}
    result = SplitResult(name="val", scores=SplitScores(n=1, scores={}, details=details))
    return View(
        name="made",
        folder="runs/made",
        task="segment",
        classes=tuple(f"class {k}" for k in range(len(counts))),
        config={},
        environment=Environment(),
        data=DataCard(),
        summary=Summary(),
        epochs=(),
        events=(),
        results=(result,),
        gallery={},
        test_openings=0,
    )


def test_the_pairs_that_are_shown_say_how_much_of_the_mistakes_they_hold() -> None:
    """Of 132 pairs that are confused alike, ten hold a thirteenth: not most."""
    counts = np.ones((12, 12), np.int64)
    np.fill_diagonal(counts, 89)
    page = str(confused(view_of_confusion(counts)))
    assert "11.0 % of all pixels are wrong; these pairs of classes account for 7.6 % of them." in page
    assert page.count('<th scope="row">') == 10


def test_a_split_without_a_wrong_pixel_names_no_pair() -> None:
    page = str(confused(view_of_confusion(np.diag([5, 5]))))
    assert "No pixel is wrong" in page
