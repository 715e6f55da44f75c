from __future__ import annotations

import csv
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from opsin.artifact import load
from opsin.cli import main
from opsin.config import DataConfig
from opsin.data.load import load as load_data
from opsin.data.pack import pack
from opsin.devices import pick_device
from opsin.errors import ConfigError, ImageError, InputError, RefusedError
from opsin.inference.pictures import write_pictures
from opsin.inference.predictor import Predictor, image_files, picture_paths, predict_files
from opsin.inference.table import write_predictions
from opsin.io.images import encode_png, read_image
from opsin.runs import Run
from opsin.training import train
from opsin.types import Prediction


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
    with pytest.raises(InputError, match="no such image file"):
        image_files([tmp_path / "gone.png"])


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RefusedError, match="contains no images"):
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


def test_pictures_of_files_are_named_after_them(tmp_path: Path) -> None:
    files = [tmp_path / "a.jpg", tmp_path / "deep" / "b.png"]
    assert picture_paths(files, tmp_path / "out") == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]


def test_files_of_one_name_are_refused_because_one_picture_would_overwrite_the_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the same name") as caught:
        picture_paths([tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.png", tmp_path / "2.png"], tmp_path / "out")
    assert caught.value.got == "1.png"


def test_an_image_is_never_overwritten_by_its_own_picture(photos: Path) -> None:
    before = (photos / "0.png").read_bytes()
    found = [Prediction(file=str(photos / "0.png"), label="a", score=1.0, box=(0, 0, 2, 2))]
    with pytest.raises(ConfigError, match="overwrite the images") as caught:
        write_pictures(found, photos / ".." / photos.name)
    assert "0.png" in str(caught.value.got)
    assert (photos / "0.png").read_bytes() == before


def test_large_photos_are_let_go_of_one_by_one(run: Run, tmp_path: Path) -> None:
    """A network of small inputs takes many images at once; the photos that they were made of need not fit in memory."""
    side = 1000
    noise = np.random.default_rng(0).integers(0, 255, (3, 20, 20), dtype=np.uint8)
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(encode_png(np.tile(noise, (1, side // 20, side // 20))))
    predictor, files = Predictor(load(run.model_folder)), image_files([tmp_path])

    def peak(count: int) -> int:
        tracemalloc.start()
        predictor.files(files[:count])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(8) < peak(1) + 2 * 3 * side * side


def test_the_command_line_averages_views_and_refuses_them_for_tiles(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["predict", str(run.path), str(photos / "3.png"), "--tta", "flip"]
    assert main([*line, "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["predictions"]
    (expected,) = run.predict([photos / "3.png"], views=("flip",))
    assert said["score"] == pytest.approx(expected.score, abs=1e-6)
    assert main([*line, "--tile", "64", "--masks", str(tmp_path)]) == 2
    assert "--tta with --tile" in capsys.readouterr().err


def test_views_of_a_photo_are_averaged(run: Run, photos: Path) -> None:
    model, file = load(run.model_folder), photos / "3.png"
    flipped = photos.parent / "flipped.png"
    flipped.write_bytes(encode_png(np.ascontiguousarray(read_image(file).pixels[:, :, ::-1])))
    one, other = (Predictor(model).files([f])[0] for f in (file, flipped))
    each = [dict(said.top) for said in (one, other)]
    both = predict_files(run.model_folder, [file], views=("flip",))[0]
    assert both.notes == (*one.notes, "the mean over 2 views")
    for label, share in both.top:
        if all(label in said for said in each):
            assert share == pytest.approx(sum(said[label] for said in each) / 2, abs=1e-5)


HEIC = (36).to_bytes(4, "big") + b"ftypheic\0\0\0\0mif1heicmiafMiHB" + bytes(100)
AVIF = (28).to_bytes(4, "big") + b"ftypavif\0\0\0\0avifmif1" + bytes(100)


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """Two digits, and beside them pictures of other formats, a broken one and a note."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i in range(2):
        (folder / f"{i}.png").write_bytes((photos / f"{i}.png").read_bytes())
    (folder / "a.heic").write_bytes(HEIC)
    (folder / "b.AVIF").write_bytes(AVIF)
    (folder / "c.tif").write_bytes(b"II*\0" + bytes(100))
    (folder / "d.jpg").write_bytes(HEIC)
    (folder / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("none")
    return folder


def test_what_cannot_be_read_is_left_out_named_and_counted(
    run: Run, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run.path), str(mixed), "--json"]) == 3
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [Path(p["file"]).name for p in document["predictions"]] == ["0.png", "1.png"]
    reasons = {Path(entry["file"]).name: entry["reason"] for entry in document["skipped"]}
    assert set(reasons) == {"a.heic", "b.AVIF", "c.tif", "d.jpg", "e.png"}
    assert all("HEIC" in reasons[name] and "heif-convert" in reasons[name] for name in ("a.heic", "d.jpg"))
    assert "AVIF" in reasons["b.AVIF"]
    assert "TIFF" in reasons["c.tif"]
    assert "skipped files: 5" in captured.err


def test_strict_gives_no_prediction_if_a_file_cannot_be_read(
    run: Run, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run.path), str(mixed), "--strict", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a.heic" in captured.err
    with pytest.raises(InputError, match="cannot be read"):
        run.predict(mixed)


def test_a_folder_of_heic_alone_says_what_it_holds(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert main(["predict", str(run.path), str(tmp_path)]) == 3
    assert "a HEIC photo" in capsys.readouterr().err


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_table_of_predictions_holds_the_probability_of_every_class(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "new" / "found.csv"
    assert main(["predict", str(run.path), str(photos), "--csv", str(table), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["predictions"]
    assert "shares" not in said[0]
    rows, expected = rows_of(table), run.predictions("val")["probabilities"][:10]
    assert list(rows[0]) == ["file", "label", "score", *(f"p_{k}" for k in range(10))]
    assert [row["file"] for row in rows] == [entry["file"] for entry in said]
    found = np.array([[float(row[f"p_{k}"]) for k in range(10)] for row in rows])
    assert np.allclose(found, expected, atol=1e-5)
    assert [row["label"] for row in rows] == [str(k) for k in expected.argmax(axis=1)]


def test_the_table_never_takes_the_place_of_an_image(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "photo.csv"
    odd.write_bytes((photos / "0.png").read_bytes())
    for image in (photos / "1.png", odd):
        before = image.read_bytes()
        assert main(["predict", str(run.path), str(odd), "--csv", str(image)]) == 2
        assert "would overwrite" in capsys.readouterr().err
        assert image.read_bytes() == before


def test_the_table_of_no_predictions_has_its_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert main(["predict", str(run.path), str(tmp_path), "--csv", str(tmp_path / "t.csv"), "--quiet"]) == 3
    assert (tmp_path / "t.csv").read_text() == "file,label,score," + ",".join(f"p_{k}" for k in range(10)) + "\n"


def test_boxes_and_texts_of_any_kind_are_cells_of_the_table(tmp_path: Path) -> None:
    said = Prediction(file="=a,b.png", label='@x "y"', score=0.25, box=(0, 1.5, 20, 30), shares=(0.25, 0.75))
    write_predictions(tmp_path / "t.csv", [said], ("+c", "d\n"), box=True)
    (row,) = rows_of(tmp_path / "t.csv")
    assert row == {
        "file": "'=a,b.png",
        "label": '\'@x "y"',
        "score": "0.25",
        "x1": "0.0",
        "y1": "1.5",
        "x2": "20.0",
        "y2": "30.0",
        "p_+c": "0.25",
        "p_d\n": "0.75",
    }


def test_classes_of_one_name_have_columns_of_their_own(tmp_path: Path) -> None:
    write_predictions(tmp_path / "t.csv", [], ("crane", "heron", "crane"), box=False)
    assert (tmp_path / "t.csv").read_text() == "file,label,score,p_crane (0),p_heron,p_crane (2)\n"


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_the_network_runs_on_the_fastest_device_or_the_one_that_is_named(
    verb: str, run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def pick(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr("opsin.devices.pick_device", pick)
    monkeypatch.setattr("opsin.evaluation.evaluation.pick_device", pick)
    line = [verb, str(run.path), *([str(photos / "3.png")] if verb == "predict" else []), "--quiet"]
    assert main(line) == 0
    assert main([*line, "--device", "cuda:1"]) == 0
    assert asked == ["auto", "cuda:1"]


def test_auto_is_the_first_device_of_those_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsin.devices.available_devices", lambda: ["cuda", "cpu"])
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_here_is_refused(run: Run, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run.path), str(photos / "3.png"), "--device", "meta"]) == 2
    assert "this device is not available" in capsys.readouterr().err
