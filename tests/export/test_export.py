"""An exported file answers as the network does, or is not left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import opsin
from opsin.artifact import load
from opsin.cli import main
from opsin.errors import CheckFailedError, ConfigError, NameTakenError
from opsin.exports import exporting, formats
from opsin.exports.exporting import Exported, export_model, script
from opsin.exports.formats import FormatName, answering
from opsin.exports.int8 import paired_change
from opsin.exports.program import Traced
from opsin.exports.proof import differences, tolerance
from opsin.inference.predictor import Predictor
from opsin.io.images import encode_png
from opsin.ops.resize import fit_image
from opsin.runs import Run
from opsin.training import train
from opsin.types import SizePolicy

TASKS = ("digits", "digit_scenes", "digit_masks")
FORMATS: tuple[FormatName, ...] = ("onnx", "torch")
PLAIN = {"epochs": 1, "subset": "train=100,val=40", "precision": "float32", "channels_last": True, "threads": 1}
SMALL = {
    "digits": {"filters": [8]},
    "digit_scenes": {},
    "digit_masks": {},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    return {name: train(name, name=name, out=out, quiet=True, **PLAIN, **SMALL[name]) for name in TASKS}


@pytest.fixture(scope="module")
def exports(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Exported]:
    folder = tmp_path_factory.mktemp("exports")
    return {
        (name, kind): export_model(
            run.model_folder,
            folder / f"{name}-{kind}",
            format=kind,
            name=name,
            scores=dict(run.scores),
            seconds=0.01,
        )
        for name, run in runs.items()
        for kind in FORMATS
    }


def images_for(run: Run, count: int) -> np.ndarray:
    contract = load(run.model_folder).preprocess
    shape = (count, contract.channels, contract.size.height, contract.size.width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", TASKS)
def test_a_file_answers_batches_of_any_size_as_the_predictor_does(
    name: str, format: FormatName, count: int, runs: dict[str, Run], exports: dict[tuple[str, str], Exported]
) -> None:
    images = images_for(runs[name], count)
    expected = Predictor(load(runs[name].model_folder)).run(torch.from_numpy(images))
    found = answering(format, exports[name, format].file)(images)
    assert list(found) == list(expected)
    worst = differences(found, expected)
    side = max(images.shape[2:])
    assert all(value <= tolerance(key, expected[key], side) for key, value in worst.items()), worst


def test_onnx_metadata_hold_classes_scores_and_the_contract(
    runs: dict[str, Run], exports: dict[tuple[str, str], Exported]
) -> None:
    session = onnxruntime.InferenceSession(str(exports["digits", "onnx"].file), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == list("0123456789")
    assert about["task"] == "classify"
    accuracy = runs["digits"].scores["val"]["accuracy"]
    assert json.loads(about["scores"])["val"]["accuracy"]["value"] == pytest.approx(accuracy.value)
    assert json.loads(about["size"]) == {"height": 8, "width": 8, "fit": "squash", "crop_share": 1.0}
    assert session.get_inputs()[0].type == "tensor(uint8)"


def test_a_torch_file_holds_the_contract_and_no_pickle(exports: dict[tuple[str, str], Exported]) -> None:
    import zipfile

    file = exports["digits", "torch"].file
    extra = {"opsin.json": ""}
    formats.read_torch(file, extra)
    assert json.loads(extra["opsin.json"])["classes"] == list("0123456789")
    with zipfile.ZipFile(file) as archive:
        pickles = [entry.filename for entry in archive.infolist() if entry.filename.endswith((".pt", ".pkl"))]
        assert sum(archive.getinfo(entry).file_size for entry in pickles) == 0


def test_an_export_that_answers_otherwise_is_refused_and_nothing_is_left(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tampered(name: FormatName, traced: Traced, contract: dict[str, object], path: Path) -> None:
        weight = next(value for key, value in traced.program.state_dict.items() if key.endswith("weight"))
        with torch.no_grad():
            weight.mul_(1.5)
        formats.write_torch(traced, contract, path)

    monkeypatch.setattr(exporting.formats, "write", tampered)
    for to in (tmp_path / "folder", tmp_path / "file.pt2"):
        with pytest.raises(CheckFailedError, match="probabilities differ by"):
            export_model(runs["digits"].model_folder, to, format="torch", seconds=0.01)
    assert list(tmp_path.iterdir()) == []


def test_differences_of_shape_name_type_and_nan_are_no_rounding() -> None:
    one = {"probabilities": np.array([[0.25, 0.75]], np.float32)}
    assert differences(one, one) == {"probabilities": 0.0}
    assert differences({"boxes": one["probabilities"]}, one) == {"outputs": np.inf}
    for other in ([[0.25]], [[np.nan, 0.75]]):
        assert differences({"probabilities": np.array(other, np.float32)}, one) == {"probabilities": np.inf}
    assert differences({"probabilities": np.array([[0.25, 0.75]])}, one) == {"probabilities": np.inf}


def test_a_folder_that_is_there_is_not_replaced(runs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(NameTakenError):
        opsin.export(runs["digits"], file=tmp_path)
    assert (tmp_path / "kept.txt").exists()


def test_a_format_that_there_is_not_and_packages_that_are_missing_are_named(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="onnx, torch"):
        export_model(runs["digits"].model_folder, tmp_path / "a", format="tflite")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"opsin\[export\]"):
        export_model(runs["digits"].model_folder, tmp_path / "a")


def test_the_command_exports_a_single_file_and_tells_size_and_speed(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "digits.pt2"
    arguments = ["export", str(runs["digits"].path), "--format", "torch", "--out", str(file), "--json", "--quiet"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(file)
    assert told["size_bytes"] == file.stat().st_size
    assert set(told["speed"]) == set(told["pytorch"]) == {"p50_ms", "p99_ms", "images_per_s"}
    assert [path.name for path in tmp_path.iterdir()] == ["digits.pt2"]


def test_int8_holds_weights_of_8_bits_and_says_what_it_costs_on_val(runs: dict[str, Run], tmp_path: Path) -> None:
    made = opsin.export(runs["digits"], file=tmp_path / "digits", int8=True)
    assert made.int8 is not None
    tensors = onnx.load(made.int8.file).graph.initializer
    kernels = [tensor for tensor in tensors if list(tensor.dims)[2:] == [3, 3]]
    assert {tensor.data_type for tensor in kernels} == {onnx.TensorProto.INT8}
    accuracy = runs["digits"].scores["val"]["accuracy"].value
    assert made.int8.before.value == pytest.approx(accuracy)
    assert made.int8.change.value == pytest.approx(made.int8.after.value - accuracy)
    assert made.int8.change.low <= made.int8.change.value <= made.int8.change.high
    image = images_for(runs["digits"], 20)
    exact, rounded = (answering("onnx", file)(image)["probabilities"] for file in (made.file, made.int8.file))
    assert 0 < np.abs(exact - rounded).max() < 0.1


def test_int8_is_refused_where_it_is_not_made(runs: dict[str, Run], tmp_path: Path) -> None:
    for arguments in ({"format": "torch"}, {"file": tmp_path / "a.onnx"}):
        with pytest.raises(ConfigError, match="--int8"):
            opsin.export(runs["digits"], int8=True, **arguments)  # type: ignore[arg-type]


def test_the_change_of_the_same_images_has_a_paired_interval() -> None:
    change = paired_change(np.array([-1.0] * 10 + [0.0] * 90))
    assert change.value == -0.1
    half = 1.96 * np.sqrt(0.1 * 0.9 / 100)  # of a share of 10 %
    assert (change.low, change.high) == pytest.approx((-0.1 - half, -0.1 + half), abs=0.015)
    same = paired_change(np.zeros(180))  # by hand: 1.96 * sqrt(0.5 + 0.5) / 182
    assert (same.value, same.low, same.high) == pytest.approx((0, -0.01077, 0.01077), abs=1e-5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth photos of several sizes, in colour, grey, with alpha, and turned by EXIF."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    made = []
    for i, (height, width) in enumerate(((70, 50), (8, 8), (33, 120), (64, 64))):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
        path = folder / f"{i}.png"
        path.write_bytes(encode_png(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
        made.append(path)
    turned, clear = Image.open(made[0]), Image.open(made[2]).convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    large = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
        (641, 483), Image.Resampling.BICUBIC
    )
    large.save(folder / "large.jpg")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    return [*made, folder / "turned.jpg", folder / "clear.png", folder / "large.jpg"]


@pytest.mark.parametrize("name", TASKS)
def test_the_script_beside_the_file_answers_photos_as_opsin_does(
    name: str, runs: dict[str, Run], exports: dict[tuple[str, str], Exported], photos: list[Path]
) -> None:
    folder = exports[name, "onnx"].folder
    assert folder is not None
    command = [sys.executable, "-I", str(folder / "predict.py"), *map(str, photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, expected in zip(done.stdout.splitlines(), runs[name].predict(photos, device="cpu"), strict=True):
        said = json.loads(line)
        assert said["file"] == expected.file
        if name == "digit_masks":
            assert list(said["shares"].values()) == pytest.approx(list(expected.shares), abs=1e-3)
            continue
        assert said["top"][0][0] == expected.label
        assert [share for _, share in said["top"]] == pytest.approx([share for _, share in expected.top], abs=1e-5)
        if expected.box is not None:
            assert said["box"] == pytest.approx(expected.box, abs=0.05)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_script_fits_images_bit_for_bit_as_opsin_does(fit: str, channels: int) -> None:
    body = script().partition("\ndef resample")[2].partition("\nfor file in")[0]
    policy = SizePolicy(height=24, width=31, fit=fit, crop_share=0.875)  # type: ignore[arg-type]
    space = {"np": np, "Image": Image, "size": vars(policy), "channels": channels}
    exec("def resample" + body, space)
    rng = np.random.default_rng(2)
    for height, width in ((24, 31), (100, 37), (7, 9), (200, 311)):
        pixels = rng.integers(0, 256, (channels, height, width), dtype=np.uint8)
        image = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
        found, _, _ = space["fitted"](image)  # type: ignore[operator]
        assert np.array_equal(found, fit_image(pixels, policy))
        for whole in ((2 * height, 2 * width), (4 * height - 1, 4 * width - 3)) if height > 90 else ():
            found, _, _ = space["fitted"](image, whole, round(whole[0] / height))  # type: ignore[operator]
            assert np.array_equal(found, fit_image(pixels, policy, whole))
