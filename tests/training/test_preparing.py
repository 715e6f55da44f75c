"""What is refused before anything is written, and what is said of the data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.config import resolve
from opsin.data.load import load
from opsin.errors import ConfigError, RunError
from opsin.io.images import encode_png
from opsin.progress import Reporter
from opsin.training import session, train
from opsin.training.setup.prepared import describe_data
from opsin.training.setup.preparing import prepare, prepare_from


def photos(folder: Path, size: tuple[int, int] = (12, 12)) -> Path:
    """Three splits of two classes; one training file is no image."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2), ("test", 2)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (3, *size), np.uint8)
                (folder / split / name / f"{i}.png").write_bytes(encode_png(pixels))
    (folder / "train" / "a" / "0.png").write_bytes(b"no image")
    return folder


def test_samples_that_are_left_out_are_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"input_size": 12, "skip_unreadable": 1, "model": "plain", "filters": [4]}
    dataset = load(photos(tmp_path / "photos"))
    prepared = prepare(dataset, resolve(settings), Reporter())
    said, kept = capsys.readouterr().err, describe_data(prepared)
    assert "train: 1 unreadable samples were skipped" in said
    assert "train: skipped: train/a/0.png" in said
    assert kept.skipped == {"train": ("train/a/0.png",)}
    assert kept.splits["train"].n == 9
    assert any("unreadable" in note for note in kept.notes)


def test_the_contract_keeps_the_fit_that_was_asked_for_where_no_image_had_to_be_fitted() -> None:
    settings: dict[str, Any] = {"model": "plain", "filters": [4], "fit": "pad", "precision": "float32"}
    report = Reporter(quiet=True)
    prepared = prepare_from("digits", root=None, recipe=None, settings=settings, report=report)
    assert prepared.artifact.preprocess.size.fit == "pad"


def test_a_name_that_is_taken_is_refused_before_the_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    monkeypatch.setattr(session, "prepare_from", lambda *args, **kwargs: pytest.fail("the data was read"))
    with pytest.raises(RunError, match="exists already"):
        train("digits", name="taken", out=tmp_path, quiet=True)


def test_tensorboard_that_is_not_installed_is_refused_before_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="not installed"):
        train("digits", name="board", out=tmp_path, quiet=True, tensorboard=True, model="plain")
    assert not (tmp_path / "board").exists()
