"""Who looks on sees what a network gets wrong at present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.training import train

PLAIN: dict[str, Any] = {
    "epochs": 1,
    "subset": "train=100,val=60",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
    "preflight": False,
}


@pytest.mark.parametrize("data", ["digits", "digit_scenes"])
def test_mistakes_of_the_last_scoring_are_in_the_run_folder_the_surest_first(tmp_path: Path, data: str) -> None:
    run = train(data, name="run", out=tmp_path, **PLAIN)
    told = json.loads((run.path / "present.json").read_text())
    found = run.predictions("val")
    wrong = np.flatnonzero(found["probabilities"].argmax(1) != found["labels"])
    scores = [entry["score"] for entry in told["mistakes"]]
    assert told["epoch"] == 1
    assert told["num_wrong"] == len(wrong)
    assert {entry["index"] for entry in told["mistakes"]} <= set(wrong.tolist())
    assert scores == sorted(scores, reverse=True)


def test_of_masks_nothing_is_kept(tmp_path: Path) -> None:
    run = train("digit_masks", name="run", out=tmp_path, **(PLAIN | {"subset": "train=40,val=20"}))
    assert not (run.path / "present.json").exists()
