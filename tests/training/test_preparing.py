"""What is refused before anything is written, and what is said of the data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opsin.config import resolve
from opsin.data.load import load
from opsin.errors import ConfigError, RunError
from opsin.io.images import encode_png
from opsin.planning.memory import memory_of
from opsin.progress import Reporter
from opsin.training import session, train
from opsin.training.planning import request_of_data
from opsin.training.setup.larger import larger_policy
from opsin.training.setup.prepared import Prepared, describe_data
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


SMALL: dict[str, Any] = {"input_size": 12, "skip_unreadable": 1, "model": "plain", "filters": [4], "crop_area": 0.5}


def prepared_with(folder: Path, size: tuple[int, int] = (30, 40), **settings: Any) -> Prepared:
    return prepare(load(photos(folder, size)), resolve(SMALL | settings), Reporter(quiet=True))


def test_photos_that_are_cropped_are_packed_larger_for_training_alone(tmp_path: Path) -> None:
    plain = prepared_with(tmp_path / "plain", pack_scale=1.0)
    scaled = prepared_with(tmp_path / "scaled", pack_scale=1.3)
    assert plain.splits["train"].larger is None
    assert scaled.splits["train"].to_augment.images.shape == (9, 3, 16, 16)
    assert scaled.splits["val"].larger is None
    for split, samples in plain.splits.items():
        assert np.array_equal(samples.images, scaled.splits[split].images)
    assert scaled.artifact.preprocess == plain.artifact.preprocess


@pytest.mark.parametrize(
    ("size", "settings", "side"),
    [
        ((30, 40), {"crop_area": 1.0, "flip": 0.5}, None),
        ((30, 40), {"crop_area": 1.0, "rotate": 10.0}, 16),
        ((30, 40), {"crop_area": 1.0, "policy": "random_ops"}, 16),
        ((12, 12), {}, None),
        ((14, 15), {}, 14),
        ((30, 13), {}, 13),
        ((24, 24), {"pack_scale": 3.0}, 24),
        ((30, 40), {"pack_scale": 1.0}, None),
    ],
)
def test_the_larger_size_is_that_of_the_photos_at_most(
    tmp_path: Path, size: tuple[int, int], settings: dict[str, Any], side: int | None
) -> None:
    config = resolve(SMALL | {"pack_scale": 1.3} | settings)
    policy = larger_policy(load(photos(tmp_path / "photos", size)), config)
    assert (None if policy is None else (policy.height, policy.width)) == (None if side is None else (side, side))


def test_the_forecast_knows_the_larger_size(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", (30, 40))
    plain, scaled = (request_of_data(folder, **SMALL, pack_scale=scale)[0] for scale in (1.0, 2.0))
    assert (plain.larger, scaled.larger) == (None, (24, 24))
    of_one, before, after = 3 * 12 * 12, memory_of(plain), memory_of(scaled)
    assert before.parts["loader"] == plain.batch * (2 + 4) * of_one
    assert after.parts["loader"] == scaled.batch * (2 * 4 + 4) * of_one
    assert after.live_bytes > before.live_bytes


def test_a_run_on_larger_photos_resumes_bit_for_bit(tmp_path: Path) -> None:
    folder, settings = photos(tmp_path / "photos", (30, 40)), SMALL | {"pack_scale": 1.3, "batch_size": 4}
    quiet: dict[str, Any] = {"out": tmp_path / "runs", "quiet": True, "preflight": False, **settings}
    whole = train(folder, name="whole", epochs=3, schedule="constant", **quiet)
    train(folder, name="parts", epochs=1, schedule="constant", **quiet)
    parts = train(folder, name="parts", resume=True, epochs=3, out=tmp_path / "runs", quiet=True)
    for key, value in whole.network().state_dict().items():
        assert torch.equal(value, parts.network().state_dict()[key])
    assert whole.data.size == (12, 12)
