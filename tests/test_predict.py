from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from opsin.artifact import load
from opsin.config import DataConfig
from opsin.data.load import load as load_data
from opsin.data.pack import pack
from opsin.errors import ImageError, InputError, RefusedError
from opsin.io.images import encode_png
from opsin.predict import Predictor, image_files, predict_files
from opsin.runs import Run
from opsin.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    settings = {"epochs": 6, "filters": [16], "precision": "float32", "channels_last": True, "threads": 1}
    return train("digits", name="digits", out=out, quiet=True, **settings)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten digits of the val split as PNG files, named by their place."""
    folder = tmp_path_factory.mktemp("photos")
    split = load_data("digits", config=DataConfig()).splits["val"]
    for i in range(10):
        (folder / f"{i}.png").write_bytes(encode_png(split.image(i)))
    return folder


def test_files_are_predicted_as_evaluation_predicted_the_same_samples(run: Run, photos: Path) -> None:
    expected = run.predictions("val")["probabilities"][:10]
    found = run.predict(photos)
    assert [p.label for p in found] == [str(k) for k in expected.argmax(axis=1)]
    assert np.allclose([p.score for p in found], expected.max(axis=1), atol=1e-5)


def test_the_batch_size_changes_no_answer(run: Run) -> None:
    samples = pack(load_data("digits", config=DataConfig()), None)["val"]
    answers = [
        Predictor(load(run.model_folder), batch_size=size).samples(samples)["probabilities"] for size in (1, 7, 256)
    ]
    assert np.allclose(answers[0], answers[1], atol=1e-6)
    assert np.allclose(answers[0], answers[2], atol=1e-6)


def test_a_photo_of_another_size_and_colour_is_predicted_and_what_was_done_is_said(run: Run, tmp_path: Path) -> None:
    photo = tmp_path / "wide <script>.png"
    photo.write_bytes(encode_png(np.random.default_rng(0).integers(0, 255, (3, 40, 90), dtype=np.uint8)))
    (found,) = predict_files(run.model_folder, [photo])
    assert found.notes == ("90x40 px fitted to 8x8 px by squash",)
    assert sum(share for _, share in found.top) <= 1 + 1e-6


def test_files_that_cannot_be_read_are_all_listed_and_none_is_predicted(run: Run, photos: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(ImageError) as caught:
        predict_files(run.model_folder, [photos / "0.png", tmp_path / "a.png", tmp_path / "b.png"])
    assert "a.png" in str(caught.value)
    assert "b.png" in str(caught.value)


def test_files_that_cannot_be_read_are_listed_over_all_batches(run: Run, photos: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    files = [photos / "0.png", tmp_path / "a.png", photos / "1.png", tmp_path / "b.png"]
    with pytest.raises(ImageError, match="2 files cannot be read") as caught:
        Predictor(load(run.model_folder), batch_size=1).files(files)
    assert "a.png" in str(caught.value.got)
    assert "b.png" in str(caught.value.got)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image file"):
        image_files([tmp_path / "gone.png"])


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RefusedError, match="without images"):
        image_files([tmp_path])


def test_a_folder_is_taken_in_natural_order(photos: Path) -> None:
    (photos / "10.png").write_bytes((photos / "0.png").read_bytes())
    assert [path.stem for path in image_files([photos])] == [str(i) for i in range(11)]
    (photos / "10.png").unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused_as_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="a pipe"):
        image_files([tmp_path / "pipe.jpg"])
