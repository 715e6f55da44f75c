"""What a run offers to Python: its network, predictions for images of all kinds, its log as a table."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opsin.artifact import load
from opsin.errors import ArtifactError, ConfigError, ImageError, InputError
from opsin.io.images import encode_png
from opsin.runs import Run
from opsin.types import Prediction

FIXTURES = Path(__file__).parent / "fixtures" / "v1"


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(FIXTURES / "digits")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.random.default_rng(3).integers(0, 256, (20, 14, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photo(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    path.write_bytes(encode_png(pixels.transpose(2, 0, 1)))
    return path


def answer(found: object) -> tuple[str, float]:
    assert isinstance(found, Prediction)
    return found.label, found.score


def test_the_network_of_a_run_gives_the_golden_answers_in_evaluation_mode(run: Run) -> None:
    network = run.network()
    assert not network.training
    saved = load(run.model_folder)
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        given = network(saved.preprocess(images))["logits"]
        assert torch.equal(given, saved.network.eval()(saved.preprocess(images))["logits"])


def test_a_run_tells_how_pixels_become_what_its_network_computes_with(run: Run) -> None:
    assert run.preprocess() == load(run.model_folder).preprocess
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    assert run.network()(run.preprocess()(images))["logits"].shape == (1, 10)


def test_an_unfinished_run_has_no_network(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((FIXTURES / "digits" / "config.json").read_bytes())
    with pytest.raises((ArtifactError, InputError)):
        Run(tmp_path).network()


def test_one_image_of_any_kind_gives_one_prediction_and_the_same_one(run: Run, photo: Path, pixels: np.ndarray) -> None:
    expected = answer(run.predict(photo))
    kinds = (str(photo), photo.read_bytes(), pixels, Image.fromarray(pixels), Image.open(photo))
    assert [answer(run.predict(kind)) for kind in kinds] == [expected] * len(kinds)  # type: ignore[call-overload]


def test_several_images_give_a_list_in_order_also_where_it_holds_one(run: Run, photo: Path, pixels: np.ndarray) -> None:
    grey = pixels[..., 0]
    found = run.predict([photo, pixels, grey])
    assert [prediction.file for prediction in found] == [str(photo), "image 1", "image 2"]
    assert answer(found[1]) == answer(found[0])
    assert answer(found[2]) == answer(run.predict(np.repeat(grey[..., None], 3, axis=2)))
    assert [len(run.predict(given)) for given in ([photo], photo.parent, [photo.parent, photo])] == [1, 1, 2]
    assert len(run.predict(photo, photo)) == 2
    assert run.predict([]) == []


def test_pillow_images_are_turned_and_converted_as_their_files_are(run: Run, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    turned = run.predict(Image.open(io.BytesIO(buffer.getvalue())))
    assert answer(turned) == answer(run.predict(buffer.getvalue()))
    assert "EXIF orientation 6 applied" in turned.notes
    see_through = Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 128, np.uint8)]))
    assert "transparency composited on white" in run.predict(see_through).notes
    assert run.predict(Image.fromarray(pixels).convert("CMYK")).file == "image 0"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.zeros((8, 8, 3), np.float32), "uint8 [H, W, 3]"),
        (np.zeros((3, 8, 8), np.uint8), "uint8 [H, W, 3]"),
        (np.zeros((0, 8), np.uint8), "uint8 [H, W, 3]"),
        (np.zeros((2, 8, 8, 3), np.uint8), "list(array)"),
        (3, "a path, bytes"),
        (b"no image", "JPEG"),
    ],
)
def test_what_is_no_image_is_refused_with_what_is_expected(run: Run, given: object, expected: str) -> None:
    with pytest.raises(ImageError) as caught:
        run.predict(given)
    assert expected in str(caught.value)


def test_a_missing_file_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such image file or folder"):
        run.predict(tmp_path / "none.png")


def test_the_log_is_a_table_where_pandas_is_there(run: Run) -> None:
    pandas = pytest.importorskip("pandas")
    table = run.log.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table["epoch"].tolist() == [1, 2]
    assert table["val.accuracy"].tolist() == [epoch.val["accuracy"] for epoch in run.log.epochs]


def test_without_pandas_the_table_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        run.log.to_pandas()


def test_the_log_is_a_sequence_of_events(run: Run) -> None:
    assert [event.event for event in run.log if event.event != "epoch"][:2] == ["preflight", "start"]
    assert len(run.log[1:]) == len(run.log) - 1
    assert repr(run.log).endswith("2 of them epochs)")
