"""What would bring more is said from what the run measured, and nothing is said where nothing was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opsin.config import resolve
from opsin.data.quality.findings import Finding
from opsin.diagnosis.prospects import prospects
from opsin.runs import DataCard, Run, RunWriter, SplitCard, SplitScores, Summary
from opsin.types import Score

COSTS = {"costs": {"whole_s": 0.05, "side_px": 160}, "plan": {"way": "head", "side_px": 160, "epochs": 4}}


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """The prospects of a run that is made up: curves of val, settings, what was found of its data."""

    def made(
        curve: list[float],
        *,
        stopped: str = "finished",
        n: int = 1000,
        data: dict[str, Any] | None = None,
        events: dict[str, dict[str, Any]] | None = None,
        **settings: Any,
    ) -> list[str]:
        writer = RunWriter.create(resolve({"epochs": len(curve), **settings}), name="run", out=tmp_path)
        card = {"name": "photos", "task": "classify", "classes": ("a", "b"), "channels": 3, "size": (160, 160)}
        splits = {"train": SplitCard(n=480), "val": SplitCard(n=n)}
        writer.data(DataCard(**{**card, "splits": splits, **(data or {})}))
        for kind, entry in (events or {}).items():
            writer.event(kind, **entry)
        for number, value in enumerate(curve, 1):
            writer.event("epoch", epoch=number, lr=0.1, train={"loss": 0.5}, val={"accuracy": value, "loss": 0.5})
        half = 0.9 / n**0.5
        score = Score(max(curve), max(curve) - half, max(curve) + half)
        writer.scores({"val": SplitScores(n=n, scores={"accuracy": score})})
        writer.summary(Summary(stopped=stopped))
        return [str(found) for found in prospects(Run.open("run", out=tmp_path))]

    return made


FLAT = [0.9, 0.901, 0.9, 0.902, 0.901, 0.9, 0.901, 0.9]
PRETRAINED = {"weights": "package", "model": "efficientnet_lite0"}


def test_a_sound_run_has_nothing_to_be_told(told: Any) -> None:
    assert told(FLAT, **PRETRAINED) == []


def test_a_curve_that_still_rises_asks_for_more_epochs(told: Any) -> None:
    (said,) = told([0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9], **PRETRAINED)
    assert "still rising: --resume --epochs 16" in said


def test_a_budget_that_ended_the_run_is_named_with_its_epoch(told: Any) -> None:
    (said,) = told(FLAT, stopped="minutes", minutes=3.0, epochs=20, **PRETRAINED)
    assert said == "the budget of 3 min ended it in epoch 8 of 20: --resume --minutes 3 goes on for as long again"


def test_a_frozen_backbone_is_told_with_the_minutes_of_training_it(told: Any) -> None:
    (said,) = told(FLAT, finetune="head", events={"plan": COSTS}, **PRETRAINED)
    assert said == "the backbone stayed as its weights were: --finetune all trains it too, about 2 min for 3 epochs"


def test_photos_from_random_weights_are_told_of_pretrained_ones(told: Any) -> None:
    (said,) = told(FLAT, model="resnet18")
    assert said == (
        "the network started from random weights, and knows 480 photos: leave --model out, and photos start from "
        "weights of ImageNet"
    )


def test_digits_are_not_told_of_photos(told: Any) -> None:
    assert told(FLAT, data={"channels": 1, "size": (8, 8)}) == []


def test_a_small_val_and_near_copies_are_told(told: Any) -> None:
    copies = Finding(kind="near-leak", severity="warning", message="5 of 60 images of val show the same shot")
    small, near = told(FLAT, n=60, data={"findings": (copies,)}, **PRETRAINED)
    assert small.startswith("the 60 samples of val give the accuracy to ± 0.116: smaller differences")
    assert near.startswith("5 of 60 images of val show the same shot: `opsin evaluate run --copies`")


def test_fine_tuning_that_gained_nothing_over_the_fitted_head_is_told(told: Any) -> None:
    (said,) = told(FLAT, events={"head_start": {"val": {"accuracy": 0.95}}}, **PRETRAINED)
    assert said.startswith("no epoch was better on val than the head that was fitted first (0.9500)")
