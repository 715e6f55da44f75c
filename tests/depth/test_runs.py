"""Runs on images of 16 bits a channel: what they learn, keep, predict and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deep_files import MIDDLE, deep_png, low_bit_classes, low_bits, random_pixels
from PIL import Image
from starlette.testclient import TestClient

import opsin
from opsin.api.deployment import service_of
from opsin.artifact import load_proved
from opsin.cli import main
from opsin.config import resolve
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.quality.audit import audit
from opsin.data.shards.writing import write_shards
from opsin.errors import ConfigError, DataError, ImageError, InterruptedRunError, RefusedError
from opsin.inference.predictor import Predictor
from opsin.inference.tiles import TiledPredictor
from opsin.io.images import decode_image, encode_jpeg, encode_mask, encode_png
from opsin.io.tensors import read_tensors
from opsin.ops.mask_pictures import palette
from opsin.planning.memory import memory_of
from opsin.runs import Run, read_gallery
from opsin.server.app import make_app
from opsin.training import train
from opsin.training.engine.loop import Trainer
from opsin.training.planning import request_of_data
from opsin.types import SizePolicy

SETTINGS: dict[str, Any] = {
    "model": "plain",
    "filters": [8],
    "input_size": 16,
    "epochs": 4,
    "batch_size": 12,
    "lr": 0.01,
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return low_bit_classes(tmp_path_factory.mktemp("data") / "halves")


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(folder, name="deep", out=tmp_path_factory.mktemp("runs"), **SETTINGS)


def accuracy(run: Run, split: str = "val") -> float:
    return run.scores[split]["accuracy"].value


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.model_folder / "weights.safetensors")[0]


def test_classes_of_the_low_8_bits_are_learned(run: Run) -> None:
    assert accuracy(run) > 0.95
    assert run.config.data.bits == run.data.bits == 16
    assert load_proved(run.model_folder).preprocess.size.bits == 16


@pytest.mark.parametrize(("channels", "tiff"), [(3, False), (1, True), (3, True)])
def test_in_colour_and_in_tiff_too(channels: int, tiff: bool, tmp_path: Path) -> None:
    data = low_bit_classes(tmp_path / "halves", channels=channels, tiff=tiff, num=16)
    assert accuracy(train(data, name="deep", out=tmp_path, **SETTINGS)) > 0.95


def test_with_8_bits_they_stay_at_chance(folder: Path, tmp_path: Path) -> None:
    shallow = train(folder, name="shallow", out=tmp_path, bits=8, **SETTINGS)
    assert 0.25 < accuracy(shallow) < 0.75
    assert shallow.config.data.bits == shallow.data.bits == 8
    described = json.loads((shallow.model_folder / "model.json").read_text())
    assert "bits" not in described["preprocess"]["size"]


def test_runs_of_8_and_of_16_bits_make_no_ensemble(run: Run, folder: Path, tmp_path: Path) -> None:
    other = train(folder, name="shallow", out=tmp_path, bits=8, **{**SETTINGS, "epochs": 1})
    with pytest.raises(ConfigError, match="8 bits a channel"):
        opsin.ensemble(run, other, name="both", out=tmp_path)


def test_it_is_said_in_a_line_at_the_start(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bits, said in ((16, 1), (8, 0)):
        options = ["--bits", "8"] if bits == 8 else []
        line = ["train", str(folder), "--name", f"{bits}", "--out", str(tmp_path), "--model", "plain", "--filters", "4"]
        assert main([*line, "--input-size", "16", "--epochs", "1", *options]) == 0
        assert capsys.readouterr().err.splitlines().count("16 bits a channel kept") == said


def test_path_bytes_array_pillow_command_line_and_server_agree(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [folder / "test" / name / f"{i}.png" for name in ("left", "right") for i in range(2)]
    predictor = Predictor(load_proved(run.model_folder))
    with_path = predictor.files(paths)
    assert [said.label for said in with_path] == ["left", "left", "right", "right"]
    arrays = [decode_image(path.read_bytes(), path.name, bits=16).pixels[0] for path in paths]
    assert arrays[0].dtype == np.uint16
    for items in ([path.read_bytes() for path in paths], arrays, [Image.fromarray(array) for array in arrays]):
        assert [said.shares for said in predictor.files(items)] == [said.shares for said in with_path]
    assert main(["predict", str(run.path), *map(str, paths), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["predictions"]
    scores = [said.score for said in with_path]
    assert [entry["score"] for entry in told] == pytest.approx(scores, abs=1e-5)
    with TestClient(make_app(service_of(run.path, device="cpu")), base_url="http://127.0.0.1:8000") as client:
        answers = [
            client.post("/predict", content=path.read_bytes(), headers={"Content-Type": "image/png"}) for path in paths
        ]
        explained = client.post("/explain", content=paths[0].read_bytes(), headers={"Content-Type": "image/png"})
    assert [answer.json()["predictions"][0]["score"] for answer in answers] == pytest.approx(scores, abs=1e-5)
    assert explained.status_code == 200


def test_a_file_of_8_bits_is_predicted_too_and_an_array_of_16_is_refused_where_8_are_seen(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    pixels = np.full((3, 16, 16), 128, np.uint8)
    deep, path = np.full((16, 16), 128 * 257, np.uint16), tmp_path / "flat.png"
    path.write_bytes(encode_png(pixels))
    predictor = Predictor(load_proved(run.model_folder))
    assert len({said.shares for said in predictor.files([path, pixels.transpose(1, 2, 0), deep])}) == 1
    shallow = train(folder, name="shallow", out=tmp_path, bits=8, **(SETTINGS | {"epochs": 1}))
    with pytest.raises(ImageError, match="not an image"):
        Predictor(load_proved(shallow.model_folder)).files([deep])


def test_scores_of_a_later_evaluation_are_those_of_the_run(run: Run, folder: Path) -> None:
    found = opsin.evaluate(run, split="val")
    assert found.scores["accuracy"] == run.scores["val"]["accuracy"]
    assert opsin.evaluate(run, data=folder, split="val").scores["accuracy"] == run.scores["val"]["accuracy"]


def test_pictures_for_people_have_8_bits(run: Run, folder: Path, tmp_path: Path) -> None:
    gallery = read_gallery(run.path)
    assert {array.dtype for name, array in gallery.items() if "labels" not in name} == {np.dtype(np.uint8)}
    assert abs(int(gallery["samples"][0, 0, 8, 8]) - MIDDLE // 256) <= 1
    assert "16 bits a channel" in run.report().read_text()
    photo = folder / "test" / "left" / "0.png"
    found = opsin.explain(
        run, photo, figures=tmp_path / "figures", methods=["all"], neurons="blocks.0.relu", quiet=True
    )
    assert all(Path(file).is_file() for file in found.files)
    opsin.evaluate(run, split="val", folder=tmp_path / "evaluated")


def test_changes_of_the_robustness_card_keep_the_low_bits(run: Run) -> None:
    card = opsin.robustness(run, split="val", changes=["shift", "jpeg"])
    means = {curve.change: curve.mean.value for curve in card.curves}
    assert means["shift"] > 0.9
    assert means["jpeg"] < 0.75


def test_a_killed_run_goes_on_with_16_bits_to_the_same_weights(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._step

    def step(self: Trainer, *args: object, **kwargs: object) -> None:
        if self.state.step == 6:
            self.save_checkpoint()
            raise KeyboardInterrupt
        original(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(InterruptedRunError):
            train(folder, name="killed", out=tmp_path, **SETTINGS)
    again = train(folder, name="killed", out=tmp_path, resume=True, quiet=True)
    assert again.config.data.bits == 16
    mine, whole = weights(again), weights(run)
    assert all(torch.equal(mine[name], whole[name]) for name in whole)


def test_a_run_from_before_the_setting_goes_on_with_8_bits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = train(folder, name="old", out=tmp_path, bits=8, **(SETTINGS | {"epochs": 1}))
    for file, groups in (("config.json", ("data",)), ("data.json", ())):
        stored = json.loads((old.path / file).read_text())
        part = stored
        for group in groups:
            part = part[group]
        del part["bits"]
        (old.path / file).write_text(json.dumps(stored))
    again = train(folder, name="old", out=tmp_path, resume=True, epochs=2)
    assert again.config.data.bits == 8
    assert "16 bits a channel kept" not in capsys.readouterr().err
    assert load_proved(again.model_folder).preprocess.size.bits == 8


def test_one_file_of_16_bits_makes_the_store_of_16_and_others_keep_their_brightness(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = generator.integers(0, 256, (3, 16, 16), np.uint8)
                data = encode_jpeg(pixels) if i == 1 else encode_png(pixels)
                (tmp_path / "data" / split / name / f"{i}.{'jpg' if i == 1 else 'png'}").write_bytes(data)
    dataset = load(tmp_path / "data")
    assert dataset.bits == 8
    shallow = pack(dataset, SizePolicy(height=16, width=16))
    (tmp_path / "data" / "train" / "b" / "2.png").write_bytes(deep_png(random_pixels(16, 16, 3)))
    mixed = load(tmp_path / "data")
    assert mixed.bits == 16
    deep = pack(mixed, SizePolicy(height=16, width=16, bits=16), cache=tmp_path / "cache")
    again = pack(mixed, SizePolicy(height=16, width=16, bits=16), cache=tmp_path / "cache")
    assert deep["train"].images.dtype == again["train"].images.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(deep["val"].images), np.asarray(shallow["val"].images) * np.uint16(257))
    np.testing.assert_array_equal(np.asarray(again["train"].images), np.asarray(deep["train"].images))
    assert len(list((tmp_path / "cache" / "packed").iterdir())) == 2


def test_augmentation_that_zooms_reads_larger_photos_of_16_bits(folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"input_size": 8, "scale": 0.2, "pack_scale": 1.5, "epochs": 8, "flip_vertical": 0.5}
    assert accuracy(train(folder, name="zoomed", out=tmp_path, **settings)) > 0.9


def test_masks_are_learned_from_the_low_bits(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(24):
        right = bool(i % 2)
        mask = np.zeros((16, 16), np.uint8)
        mask[:, slice(8, 16) if right else slice(0, 8)] = 1
        for kind, data in (
            ("images", deep_png(low_bits(generator, right=right))),
            ("masks", encode_mask(mask, palette())),
        ):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / kind / f"{i}.png").write_bytes(data)
    settings = {key: value for key, value in SETTINGS.items() if key not in ("model", "filters")}
    settings |= {"model": "unet", "filters": [4, 8], "epochs": 20, "val_fraction": 0.25, "batch_size": 6}
    # a hundredth of brightness more hides what the low bits say
    settings |= {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    found = train(tmp_path / "data", name="masks", out=tmp_path, **settings)
    assert found.data.bits == 16
    assert found.scores["val"]["mean_iou"].value > 0.8
    photo = tmp_path / "data" / "images" / "1.png"
    predictor = Predictor(load_proved(found.model_folder))
    tiled = TiledPredictor(predictor, tile=32, overlap=8)
    pixels = decode_image(photo.read_bytes(), photo.name, bits=16).pixels
    mask = np.concatenate(list(tiled.rows(pixels)))
    assert mask[:, 12:].mean() > 0.8
    assert mask[:, :4].mean() < 0.2


def test_boxes_are_packed_with_16_bits(tmp_path: Path) -> None:
    rows = ["path,label,xmin,ymin,xmax,ymax"]
    generator = np.random.default_rng(0)
    for i in range(16):
        (tmp_path / f"{i}.png").write_bytes(deep_png(low_bits(generator, right=bool(i % 2))))
        rows.append(f"{i}.png,half {i % 2},{8 * (i % 2)},0,{8 + 8 * (i % 2)},16")
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    settings = SETTINGS | {"epochs": 20, "val_fraction": 0.25, "batch_size": 4}
    found = train(tmp_path / "boxes.csv", name="boxes", out=tmp_path / "runs", **settings)
    assert found.data.bits == 16
    assert found.scores["val"]["mean_iou"].value > 0.6


def test_a_frozen_backbone_sees_the_low_bits(run: Run, folder: Path, tmp_path: Path) -> None:
    settings = {key: value for key, value in SETTINGS.items() if key not in ("model", "filters")}
    found = train(
        folder, name="head", out=tmp_path, weights=str(run.path), finetune="head", preflight=False, **settings
    )
    assert accuracy(found) > 0.95


def test_files_that_differ_in_low_bits_alone_are_no_copies(tmp_path: Path) -> None:
    for split, low in (("train", (0, 1)), ("val", (2, 3))):
        for name, extra in zip(("a", "b"), low, strict=True):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.png").write_bytes(deep_png(np.full((8, 8, 1), MIDDLE + extra, np.uint16)))
    assert "leak" not in {finding.kind for finding in audit(load(tmp_path)).findings}


def test_the_plan_counts_batches_of_floats(folder: Path) -> None:
    plain = {key: value for key, value in SETTINGS.items() if key not in ("quiet", "channels_last")}
    shallow, deep = (memory_of(request_of_data(folder, **plain, **given)[0]) for given in ({"bits": 8}, {}))
    assert deep.parts["loader"] > shallow.parts["loader"]


def test_an_onnx_file_alone_takes_floats_and_a_folder_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(RefusedError, match="16 bits a channel"):
        opsin.export(run, file=tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    made = opsin.export(run, file=tmp_path / "deep.onnx")
    assert max(made.differences.values()) < 1e-4
    opsin.export(run, format="torch", file=tmp_path / "torch")
    contract = json.loads((tmp_path / "torch" / "contract.json").read_text())
    assert contract["input"].startswith("images: float32 [B, 3, 16, 16], 0 to 255: 16 bits divided by 257")


def test_shards_of_16_bits_train_with_8_and_16_are_refused(folder: Path, tmp_path: Path) -> None:
    write_shards(load(folder), tmp_path / "shards")
    sharded = load(tmp_path / "shards")
    assert sharded.bits == 8
    assert any("16 bits a channel: from shards they are read as 8" in note for note in sharded.notes)
    with pytest.raises(DataError, match="shards"):
        pack(sharded, SizePolicy(height=16, width=16, bits=16))


def test_a_policy_that_takes_8_bits_and_another_depth_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes 8 bits"):
        train(folder, name="policy", out=tmp_path, policy="rand_augment", **SETTINGS)
    with pytest.raises(ConfigError, match="bits"):
        resolve({"bits": 12})
