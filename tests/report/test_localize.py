"""The report's sections of localization, from details that the task itself has made."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.config import resolve, to_dict
from opsin.ops.box_pictures import PREDICTED, TRUE, draw_box, enlarge
from opsin.report.page import page
from opsin.report.view import SplitResult, View
from opsin.runs import DataCard, Environment, Epoch, SplitScores, Summary
from opsin.tasks import Targets, get_task
from opsin.tasks.localize.report import SECTIONS, threshold_figure

CLASSES = ("one", "<script>two")


@pytest.fixture(scope="module")
def view() -> View:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    corner = rng.uniform(0, 30, (60, 2))
    true = np.concatenate([corner, corner + 28], axis=1).astype(np.float32)
    boxes = true + rng.normal(0, 3, true.shape).astype(np.float32)
    predictions = {"probabilities": np.float32([[0.8, 0.2], [0.3, 0.7]])[labels], "boxes": boxes}
    ids = tuple(f"val/{i}" for i in range(60))
    targets = Targets(ids=ids, labels=labels, boxes=true, image_size=(75, 75))
    task = get_task("localize")
    details = task.assess(predictions, targets, CLASSES).details
    result = SplitResult(
        name="val", scores=SplitScores(n=60, scores=task.scores(predictions, targets, CLASSES), details=details)
    )
    part = {"loss": 2.0, "class_loss": 1.0, "box_loss": 0.5, "mean_iou": 0.6, "joint_accuracy": 0.5}
    epochs = tuple(Epoch(epoch=e, lr=0.1, train=part, val=part, best=True) for e in (1, 2))
    return View(
        name="scenes",
        folder="runs/scenes",
        task="localize",
        classes=CLASSES,
        config=to_dict(resolve({"box_loss": "ciou"})),
        environment=Environment(),
        data=DataCard(),
        summary=Summary(),
        epochs=epochs,
        events=(),
        results=(result,),
        gallery={"mistakes_val": np.zeros((48, 1, 75, 75), np.uint8)},
        test_openings=0,
    )


def test_every_section_of_a_scored_run_has_something_to_show(view: View) -> None:
    assert all(section.show(view) for section in SECTIONS if section.key != "answering")


def test_the_page_opens_with_the_joint_score_and_escapes_class_names(view: View) -> None:
    shown = page(view)
    assert "Joint accuracy" in shown
    assert "<script>" not in shown
    assert "ciou" in shown


def test_errors_in_pixels_are_no_percentages(view: View) -> None:
    row = page(view).partition("Error of the centre, px")[2].partition("</tr>")[0]
    assert row
    assert "%" not in row


def test_the_gallery_shows_each_kind_with_its_overlap(view: View) -> None:
    shown = str(next(s for s in SECTIONS if s.key == "gallery").show(view))
    for title in ("Worst boxes", "Best boxes", "Random boxes"):
        assert title in shown
    assert shown.count("IoU <b>") == 48


def test_a_run_without_scores_has_empty_sections_and_no_error(view: View) -> None:
    bare = View(**{**vars(view), "results": (), "epochs": (), "gallery": {}})
    assert not any(section.show(bare) for section in SECTIONS)


def test_the_curve_marks_the_threshold_and_both_lines() -> None:
    curve = {"thresholds": [0.0, 0.5, 1.0]}
    for key in ("good_boxes", "joint_accuracy"):
        curve |= {key: [1.0, 0.8, 0.0], f"{key}_low": [0.9, 0.7, 0.0], f"{key}_high": [1.0, 0.9, 0.1]}
    drawn = str(threshold_figure(curve, 0.6))
    assert "scores at 0.6" in drawn
    assert drawn.count("<path") == 2


def test_a_box_is_outlined_inside_of_its_edges_and_nothing_else_is_changed() -> None:
    drawn = draw_box(np.zeros((3, 20, 20), np.uint8), (2, 3, 8, 9), TRUE)
    outline = (drawn == np.array(TRUE, np.uint8)[:, None, None]).all(axis=0)
    assert outline.sum() == 6 * 6 - 4 * 4
    assert outline[3, 2:8].all()
    assert outline[8, 2:8].all()
    assert not drawn[:, ~outline].any()


@pytest.mark.parametrize("box", [(-5, -5, 50, 50), (30, 30, 40, 40), (5, 5, 5, 9), (3, 3, 4, 4)])
def test_boxes_at_and_beyond_the_edge_are_drawn_as_far_as_they_are_seen(box: tuple[int, ...]) -> None:
    assert draw_box(np.zeros((3, 20, 20), np.uint8), box, PREDICTED).shape == (3, 20, 20)


def test_small_images_grow_by_a_whole_factor() -> None:
    grown, factor = enlarge(np.zeros((3, 20, 30), np.uint8), 100)
    assert factor == 4
    assert grown.shape == (3, 80, 120)
