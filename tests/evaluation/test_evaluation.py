"""Evaluating a run: its own splits, the sealed test split, other data sets, and the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opsin import artifact as artifacts
from opsin.batches.preprocess import measure
from opsin.cli import main
from opsin.config import resolve
from opsin.data.load import Dataset, load
from opsin.data.pack import pack
from opsin.errors import ConfigError, DataError, RunError
from opsin.evaluation import evaluate, evaluate_predictions, record_split
from opsin.inference.predictor import Predictor
from opsin.io.images import encode_png
from opsin.models.registry import ModelSpec
from opsin.runs import DataCard, Run, RunWriter, read_gallery
from opsin.runs.codec import to_json
from opsin.tasks import Targets, get_task
from opsin.types import SizePolicy

CLASSES = ("cat", "dog", "eel")
SIDE = 10


@dataclass(frozen=True)
class World:
    """A finished run over arrays in a file, made by hand."""

    run: Run
    file: Path
    arrays: dict[str, np.ndarray]
    folder: Path


def arrays_of(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {"classes": np.array(CLASSES)}
    for split, count in (("train", 30), ("val", 24), ("test", 18)):
        arrays[f"x_{split}"] = generator.integers(0, 256, (count, SIDE, SIDE), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 3
    return arrays


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    file, arrays = tmp_path / "animals.npz", arrays_of(0)
    np.savez(file, **arrays)
    config = resolve({"source": str(file), "task": "classify"})
    dataset = load(file, config=config.data)
    writer = RunWriter.create(config, name="try", out=tmp_path / "runs")
    writer.data(DataCard(task="classify", name=dataset.name, fingerprint=dataset.fingerprint()))
    run = writer.run
    task, splits = get_task("classify"), pack(dataset, None)
    spec = ModelSpec(name="dense", channels=1, height=SIDE, width=SIDE, options={})
    contract = measure(splits["train"], "unit", SizePolicy(height=SIDE, width=SIDE))
    torch.manual_seed(0)
    artifact = artifacts.Artifact(
        network=task.build(spec, 3), task="classify", classes=CLASSES, spec=spec, preprocess=contract, meta={}
    )
    artifacts.save(run.model_folder, artifact, golden_images=torch.from_numpy(splits["train"].images[:2]))
    predictions, targets = Predictor(artifact).samples(splits["val"]), Targets.of(splits["val"])
    found = evaluate_predictions(task, predictions, targets, CLASSES)
    record_split(run, "val", found, predictions, targets, splits["val"].images)
    return World(run=run, file=file, arrays=arrays, folder=tmp_path)


def values(scores):
    return {name: score.value for name, score in scores.items()}


def test_val_scores_are_those_that_the_run_ended_with(world):
    found = evaluate(world.run)
    stored = world.run.scores["val"]
    assert (found.split, found.n) == ("val", 24)
    for name, score in found.scores.items():
        assert stored[name].value == pytest.approx(score.value, abs=1e-6)
    assert found.details["temperature"] == pytest.approx(stored.details["temperature"], rel=1e-4)


def test_batch_size_does_not_change_scores(world):
    whole = values(evaluate(world.run).scores)
    for name, value in values(evaluate(world.run, batch_size=5).scores).items():
        assert value == pytest.approx(whole[name], abs=1e-6)


def test_a_look_at_val_changes_nothing_in_the_run(world):
    before = {path: path.read_bytes() for path in world.run.path.rglob("*") if path.is_file()}
    evaluate(world.run)
    assert before == {path: path.read_bytes() for path in world.run.path.rglob("*") if path.is_file()}


def test_each_look_at_test_is_recorded_and_kept_with_its_predictions(world):
    assert world.run.log.test_openings == 0
    found = evaluate(world.run, split="test", command="opsin evaluate try --split test")
    assert found.test_openings == 1
    assert evaluate(world.run, split="test").test_openings == 2
    events = [event for event in world.run.log if event["event"] == "test_opened"]
    assert events[0]["command"] == "opsin evaluate try --split test"
    stored = world.run.scores
    assert stored["test"].opened == 2
    assert stored["test"].n == 18
    assert stored["val"].n == 24
    assert world.run.predictions("test")["probabilities"].shape == (18, 3)
    assert world.run.predictions("val")["ids"].shape == (24,)
    shown = read_gallery(world.run.path)["mistakes_test"]
    assert len(shown) == len(stored["test"].details["mistakes"])
    assert "mistakes_val" in read_gallery(world.run.path)


def test_test_takes_the_temperature_of_val(world):
    assert evaluate(world.run, split="test").details["temperature"] == world.run.scores["val"].fitted["temperature"]


def test_a_refused_evaluation_does_not_open_test(world):
    np.savez(world.file, **arrays_of(1))
    with pytest.raises(DataError, match="has changed"):
        evaluate(world.run, split="test")
    assert world.run.log.test_openings == 0


def test_other_data_in_another_order_of_classes_gives_the_same_scores(world):
    order = [2, 0, 1]
    arrays = dict(world.arrays) | {"classes": np.array([CLASSES[k] for k in order])}
    for split in ("train", "val", "test"):
        arrays[f"y_{split}"] = np.argsort(order)[world.arrays[f"y_{split}"]]
    np.savez(world.folder / "other.npz", **arrays)
    found = evaluate(world.run, data=world.folder / "other.npz")
    assert found.data == "other"
    assert values(found.scores) == pytest.approx(values(evaluate(world.run).scores), abs=1e-9)


def test_the_test_split_of_another_set_is_sealed_too_but_not_kept(world):
    np.savez(world.folder / "other.npz", **arrays_of(5))
    found = evaluate(world.run, split="test", data=world.folder / "other.npz")
    assert found.test_openings == 1
    assert "test" not in world.run.scores


def test_training_images_in_another_set_are_counted(world):
    arrays = arrays_of(5)
    arrays["x_val"][:3] = world.arrays["x_train"][[4, 7, 7]]
    np.savez(world.folder / "other.npz", **arrays)
    (said,) = [
        note
        for note in evaluate(world.run, data=world.folder / "other.npz").notes
        if "copies of training images" in note
    ]
    assert said.startswith("3 of 24 images")
    np.savez(world.folder / "clean.npz", **arrays_of(6))
    assert not [note for note in evaluate(world.run, data=world.folder / "clean.npz").notes if "train" in note]


def test_it_is_said_when_nobody_can_know_whether_training_images_are_scored(world):
    np.savez(world.folder / "other.npz", **arrays_of(5))
    np.savez(world.file, **arrays_of(1))
    notes = evaluate(world.run, data=world.folder / "other.npz").notes
    assert any(
        "it is unknown whether training images are among these: the data set has changed" in note for note in notes
    )


def write_photos(folder: Path, classes: tuple[str, ...], size: tuple[int, int]) -> Path:
    generator = np.random.default_rng(9)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(4):
            (folder / name / f"{i}.png").write_bytes(encode_png(generator.integers(0, 256, (3, *size), np.uint8)))
    return folder


def test_photos_of_another_size_are_all_scored_and_it_says_what_was_done(world):
    photos = write_photos(world.folder / "photos", CLASSES[:2], (20, 30))
    found = evaluate(world.run, data=photos)
    assert (found.split, found.n, found.test_openings) == ("all", 8, 0)
    notes = "\n".join(found.notes)
    assert "8 of 8 images were not 10x10 px (from 30x20 to 30x20): both sides resized" in notes
    assert "RGB images were converted to grey" in notes
    assert "no samples of 1 classes, whose scores are n/a: eel" in notes
    assert found.details["per_class"][2]["recall"]["value"] is None


def test_the_runs_own_undivided_photos_under_another_spelling_are_not_scored_as_new_ones(world, monkeypatch):
    photos = write_photos(world.folder / "own", CLASSES, (SIDE, SIDE))
    for name in CLASSES:
        for i in range(4, 12):
            pixels = np.full((3, SIDE, SIDE), 20 * i + len(name), np.uint8)
            (photos / name / f"{i}.png").write_bytes(encode_png(pixels))
    monkeypatch.chdir(world.folder)
    config = resolve({"source": "own", "task": "classify"})
    RunWriter(world.run).config(config)
    dataset = load("own", config=config.data)
    RunWriter(world.run).data(DataCard(task="classify", name="own", fingerprint=dataset.fingerprint()))
    for spelling in ("own", "own/", "./own", photos):
        found = evaluate(world.run, data=spelling)
        assert (found.split, found.n) == ("val", len(dataset.splits["val"]))


def test_all_samples_of_undivided_arrays_are_scored_and_a_split_that_was_drawn_where_it_is_named(world):
    images = np.random.default_rng(5).integers(0, 256, (60, SIDE, SIDE), np.uint8)
    dataset = Dataset.from_arrays(images=images, labels=np.array(CLASSES)[np.arange(60) % 3])
    found = evaluate(world.run, data=dataset)
    assert (found.split, found.n, found.test_openings) == ("all", 60, 0)
    assert not any("drawn" in note for note in found.notes)
    np.savez(world.folder / "tested.npz", x_test=images, y_test=np.arange(60) % 3, classes=np.array(CLASSES))
    tested = evaluate(world.run, data=world.folder / "tested.npz")
    assert found.scores["accuracy"] == tested.scores["accuracy"]
    named = evaluate(world.run, data=dataset, split="val")
    assert (named.split, named.n) == ("val", len(dataset.splits["val"]))


def test_classes_that_the_network_does_not_know_are_refused(world):
    photos = write_photos(world.folder / "photos", ("cat", "dogs"), (10, 10))
    with pytest.raises(DataError, match=r"(?s)unknown to the network.*dogs.*may be `dog`"):
        evaluate(world.run, data=photos)


def test_an_unknown_split_and_an_unfinished_run_are_refused(world):
    with pytest.raises(ConfigError, match="did you mean `test`"):
        evaluate(world.run, split="tests")
    unfinished = RunWriter.create(world.run.config, name="new", out=world.folder / "runs").run
    with pytest.raises(RunError, match="not finished"):
        evaluate(unfinished)


@pytest.mark.parametrize("device", ["npu", "meta"])
def test_a_device_that_is_not_here_is_refused(world, device):
    with pytest.raises(ConfigError, match="not available") as caught:
        evaluate(world.run, device=device)
    assert "cpu" in str(caught.value.expected)


def test_json_holds_one_document_with_the_contract_keys(world, capsys):
    assert main(["evaluate", str(world.run.path), "--json", "--split", "test"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert {"run", "split", "n", "scores"} <= set(document)
    assert document["run"] == str(world.run.path)
    assert (document["split"], document["n"], document["test_openings"]) == ("test", 18, 1)
    for score in document["scores"].values():
        assert set(score) == {"value", "low", "high"}
    assert "opened once" in err


def test_the_table_shows_each_score_with_its_interval(world, capsys):
    assert main(["evaluate", "try", "--out", str(world.folder / "runs")]) == 0
    out = capsys.readouterr().out
    accuracy = world.run.scores["val"]["accuracy"]
    assert "24 samples" in out
    assert f"{accuracy.value:.4f}" in out
    assert f"{accuracy.low:.4f} to {accuracy.high:.4f}" in out


def test_a_missing_run_exits_with_two(world, capsys):
    assert main(["evaluate", "tri", "--out", str(world.folder / "runs")]) == 2
    assert "did you mean `try`" in capsys.readouterr().err


def test_views_are_scored_beside_the_images_as_they_are(world):
    plain = evaluate(world.run)
    found = evaluate(world.run, tta=("flip",))
    assert found.scores.scores == plain.scores.scores
    assert found.tta.views == ("flip",)
    assert found.tta.scores.keys() == plain.scores.keys()
    assert world.run.scores["val"].tta == found.tta


def test_one_look_at_test_scores_both(world, capsys):
    assert main(["evaluate", str(world.run.path), "--split", "test", "--tta", "flip"]) == 0
    captured = capsys.readouterr()
    assert "one view" in captured.out
    assert "with flip" in captured.out
    assert world.run.log.test_openings == 1
    kept = world.run.scores["test"]
    assert kept.tta.views == ("flip",)
    evaluate(world.run, split="test")
    assert world.run.scores["test"].tta == kept.tta, "stays when it is not asked for anew"


def test_views_that_the_network_was_never_trained_on_are_told(world):
    assert any("not trained on mirrored" in note for note in evaluate(world.run, tta=("flip",)).notes)


@pytest.mark.parametrize(
    ("views", "said"), [("flop", "did you mean `flip`?"), ("flip,", "an empty name"), ("scale", "leave `scale` out")]
)
def test_a_view_that_is_refused_does_not_open_test(world, capsys, views, said):
    assert main(["evaluate", str(world.run.path), "--split", "test", "--tta", views]) == 2
    assert said in capsys.readouterr().err
    assert world.run.log.test_openings == 0


def test_views_leave_the_scores_of_images_as_they_are_in_the_run(world):
    before = world.run.scores["val"]
    evaluate(world.run, tta=("flip",))
    after = world.run.scores["val"]
    assert after.tta.views == ("flip",)
    assert replace(after, tta=None) == before


def test_views_of_another_set_are_scored_and_kept_nowhere(world):
    np.savez(world.folder / "other.npz", **arrays_of(5))
    before = world.run.scores
    assert evaluate(world.run, data=world.folder / "other.npz", tta=("flip",)).tta.views == ("flip",)
    assert evaluate(world.run, split="train", tta=("flip",)).tta.views == ("flip",)
    assert world.run.scores == before


def test_json_tells_the_scores_over_views(world, capsys):
    assert main(["evaluate", str(world.run.path), "--json", "--tta", "flip"]) == 0
    assert json.loads(capsys.readouterr().out)["tta"] == to_json(world.run.scores["val"].tta)
    assert evaluate(world.run).to_json()["tta"] is None


def test_copies_and_views_together_fit_a_terminal_of_80_characters(world, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["evaluate", str(world.run.path), "--copies", "--tta", "flip"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    kept = world.run.scores["val"]
    for scores in (kept, kept.without_copies, kept.tta):
        assert f"{scores['accuracy'].low:.4f} to {scores['accuracy'].high:.4f}" in out


def test_another_data_set_gets_confusion_classes_and_every_wrong_sample(world, tmp_path, capsys):
    arrays = arrays_of(5)
    np.savez(world.folder / "more.npz", **arrays)
    options = ["--data", str(world.folder / "more.npz"), "--split", "val", "--folder", str(tmp_path / "found")]
    assert main(["evaluate", str(world.run.path), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    confusion = np.array(found["confusion"])
    assert confusion.sum() == found["n"] == 24
    assert len(found["wrong"]) == found["n"] - np.trace(confusion) > 0
    assert [row["class"] for row in found["per_class"]] == found["classes"] == list(CLASSES)
    assert [entry["score"] for entry in found["wrong"]] == sorted((e["score"] for e in found["wrong"]), reverse=True)
    assert all(entry["label"] != entry["predicted"] for entry in found["wrong"])
    assert json.loads((tmp_path / "found" / "evaluation.json").read_text()) == found
    assert len(list((tmp_path / "found" / "wrong").iterdir())) == len(found["wrong"])
    assert (tmp_path / "found" / "wrong.csv").read_text().startswith("index,id,label,predicted,score\n")


def test_the_terminal_names_the_worst_classes_and_the_way_to_more(world, capsys):
    assert main(["evaluate", str(world.run.path)]) == 0
    out = capsys.readouterr().out
    assert "worst classes: " in out
    assert "--folder DIR" in out


def test_a_split_of_data_that_are_not_divided_is_refused(world):
    photos = write_photos(world.folder / "whole", CLASSES, (SIDE, SIDE))
    with pytest.raises(ConfigError, match=r"(?s)not divided.*leave --split out"):
        evaluate(world.run, data=photos, split="val")
    assert evaluate(world.run, data=photos).n == 12
