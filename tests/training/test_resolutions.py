"""Runs that see images at several resolutions: targets go with them, scores are those of the input's own size."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.errors import ConfigError
from opsin.tasks.segment.task import Segment
from opsin.training import train

SETTINGS = {
    "input_size": 24,
    "input_width": 32,
    "filters": [6, 8],
    "batch_size": 50,
    "epochs": 2,
    "precision": "float32",
    "threads": 1,
    "preflight": False,
    "quiet": True,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache or his data."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPSIN_DATA", raising=False)


def test_masks_are_trained_at_smaller_heights_and_scored_at_the_size_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, loss = [], Segment.loss

    def watched(task, outputs, batch):  # type: ignore[no-untyped-def]
        shapes.append((tuple(batch.images.shape[2:]), tuple(batch.masks.shape[1:])))
        return loss(task, outputs, batch)

    monkeypatch.setattr(Segment, "loss", watched)
    run = train("digit_masks", subset="train=100,val=20", resolutions=[12, 18], out=tmp_path, **SETTINGS)
    assert shapes == [((12, 16), (12, 16))] * 2 + [((18, 24), (18, 24))] * 2
    assert run.predictions("val")["masks"].shape[1:] == (24, 32)


@pytest.mark.parametrize("heights", [[], [16, 0], [-4]])
def test_heights_that_no_image_has_are_refused(heights: list[int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resolutions"):
        train("digit_masks", resolutions=heights, out=tmp_path, **SETTINGS)
