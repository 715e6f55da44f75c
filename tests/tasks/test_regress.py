"""Regression: scale, loss, scores, reader, and a run through all verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

import opsin
from opsin.artifact import load
from opsin.batches.batch import Batch
from opsin.cli import main as run_command
from opsin.comparison.comparison import compare_runs
from opsin.config import DataConfig
from opsin.data.load import load as load_data
from opsin.errors import DataError
from opsin.inference.predictor import Predictor
from opsin.io.images import encode_png
from opsin.tasks import Targets, get_task
from opsin.tasks.regress.scores import r2_parts
from opsin.tasks.regress.task import Regress

NAMES = ("length", "width")


def predictions_and_numbers(count: int = 100) -> tuple[dict[str, np.ndarray], Targets]:
    generator = np.random.default_rng(0)
    numbers = (generator.normal(size=(count, 2)) * [1, 50] + [3, 1000]).astype(np.float32)
    predicted = (numbers + generator.normal(size=(count, 2)) * [0.3, 20]).astype(np.float32)
    return {"numbers": predicted}, Targets(ids=[f"{i}" for i in range(count)], numbers=numbers)


def write_table(folder: Path, text: str, count: int = 2) -> Path:
    for k in range(count):
        (folder / f"{k}.png").write_bytes(encode_png(np.full((3, 8, 8), 10 * k, np.uint8)))
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


def test_scores_are_those_of_scikit_learn():
    predictions, targets = predictions_and_numbers()
    found = get_task("regress").assess(predictions, targets, NAMES)
    said, true = predictions["numbers"], targets.numbers
    expected = {
        "r2": r2_score(true, said),
        "mae": mean_absolute_error(true, said),
        "rmse": np.sqrt(mean_squared_error(true, said, multioutput="raw_values")).mean(),
    }
    for name, value in expected.items():
        score = found.scores[name]
        assert score.value == pytest.approx(value, rel=1e-4)
        assert score.low < score.value < score.high
    json.dumps(found.details, allow_nan=False)


def test_numbers_that_do_not_vary_have_no_r2():
    _, targets = predictions_and_numbers()
    same = Targets(ids=targets.ids, numbers=np.ones((100, 2), np.float32))
    found = get_task("regress").scores({"numbers": np.ones((100, 2), np.float32)}, same, NAMES, intervals=False)
    assert np.isnan(found["r2"].value)
    assert found["mae"].value == 0


def test_runs_are_compared_by_the_score_itself():
    predictions, targets = predictions_and_numbers()
    parts, of_sums = r2_parts(predictions["numbers"], targets.numbers)
    assert of_sums(parts.sum(axis=0, keepdims=True))[0] == pytest.approx(
        r2_score(targets.numbers, predictions["numbers"]), rel=1e-4
    )


def test_losses_are_of_standardized_numbers_by_hand():
    mean, deviation = torch.tensor([10.0]), torch.tensor([5.0])
    batch = Batch(
        images=torch.zeros(1, 1, 2, 2), index=torch.zeros(1, dtype=torch.int64), numbers=torch.tensor([[0.0]])
    )
    outputs = {"numbers": torch.tensor([[15.0]])}
    assert Regress(mean=mean, deviation=deviation).loss(outputs, batch)["loss"].item() == 9
    huber = Regress(mean=mean, deviation=deviation, number_loss="huber").loss(outputs, batch)["loss"].item()
    assert huber == 2.5  # 3 - 1/2


def test_a_table_is_read_by_the_columns_that_are_named(tmp_path: Path):
    table = write_table(tmp_path, "path,age,height,note\n0.png,1,20.5,x\n1.png,2,-3,y\n")
    found = load_data(table, drawn=False, config=DataConfig(number_columns=("age", "height")))
    assert (found.task, found.classes) == ("regress", ("age", "height"))
    assert found.splits["test"].numbers.tolist() == [[1, 20.5], [2, -3]]
    assert "ignored columns: note" in found.notes


@pytest.mark.parametrize("typed", [["age,height"], ["age", "--number-columns", "height"]])
def test_the_command_line_names_columns_of_numbers(
    typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = ["train", "train", "val", "test"]
    rows = [f"{i}.png,{i},{i + 1},{split}" for i, split in enumerate(splits)]
    table = write_table(tmp_path, "\n".join(["path,age,height,split", *rows]), count=4)
    assert run_command(["data", "show", str(table), "--json", "--number-columns", *typed]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["age", "height"]


def test_a_table_with_a_value_or_several_is_one_of_numbers(tmp_path: Path):
    table = write_table(tmp_path, "path,value\n0.png,1.5\n1.png,2\n")
    assert load_data(table, drawn=False).splits["test"].numbers.tolist() == [[1.5], [2]]
    table = write_table(tmp_path, "path,values\n0.png,1;2\n1.png,3;4\n")
    found = load_data(table, drawn=False)
    assert found.classes == ("value_1", "value_2")
    assert found.splits["test"].numbers.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,value\n0.png,1\n1.png,tall\n", "line 3"),
        ("path,value\n0.png,1\n1.png,nan\n", "line 3"),
        ("path,values\n0.png,1;2\n1.png,3\n", "lines 3"),
    ],
)
def test_a_row_without_its_numbers_is_refused_by_its_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(DataError, match=message):
        load_data(write_table(tmp_path, text), drawn=False)


def test_a_column_that_is_not_there_is_refused(tmp_path: Path):
    table = write_table(tmp_path, "path,height\n0.png,1\n1.png,2\n")
    with pytest.raises(DataError, match="height"):
        load_data(table, drawn=False, config=DataConfig(number_columns=("hight",)))


def test_a_run_goes_through_all_verbs_and_learns_how_bright_images_are(tmp_path: Path):
    generator = np.random.default_rng(0)
    levels = generator.uniform(30, 220, 240)
    images = np.clip(levels[:, None, None] + generator.normal(0, 20, (240, 12, 12)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "n.npz", images=images, numbers=np.stack([1000 - levels, levels / 7], axis=1))
    kept = {"epochs": 8, "threads": 1, "quiet": True, "out": tmp_path, "batch_size": 24, "model": "tiny"}
    run = opsin.train(tmp_path / "n.npz", name="a", open_test=True, **kept)
    other = opsin.train(tmp_path / "n.npz", name="b", report=False, preflight=False, number_loss="huber", **kept)
    assert run.scores["test"]["r2"].value > 0.5
    artifact = load(run.model_folder)
    scale = artifact.network.heads["numbers"][1]
    assert scale.mean.tolist() == pytest.approx(
        opsin.dataset_of(run).splits["train"].numbers.mean(axis=0).tolist(), rel=1e-5
    )
    found = opsin.evaluate(run, split="test", tta=("flip",))
    assert found.scores["mae"].value == pytest.approx(run.scores["test"]["mae"].value, rel=1e-5)
    (tmp_path / "one.png").write_bytes(encode_png(np.full((3, 12, 12), 100, np.uint8)))
    (said,) = Predictor(artifact).files([tmp_path / "one.png"])
    assert said.label.startswith("value_0")
    assert "Number by number" in (run.path / "report.html").read_text()
    assert compare_runs([run, other]).score == "r2"


def test_a_prediction_is_told_as_its_numbers_and_written_under_their_names(tmp_path: Path, capsys):
    generator = np.random.default_rng(0)
    data = opsin.load({"images": generator.integers(0, 255, (60, 12, 12), np.uint8), "numbers": generator.random(60)})
    opsin.train(data, name="a", epochs=1, preflight=False, quiet=True, report=False, out=tmp_path)
    (tmp_path / "one.png").write_bytes(encode_png(np.full((3, 12, 12), 100, np.uint8)))
    table = tmp_path / "p.csv"
    words = ["predict", "a", str(tmp_path / "one.png"), "--runs", str(tmp_path), "--csv", str(table)]
    assert run_command(words) == 0
    assert "%" not in capsys.readouterr().out
    assert table.read_text().splitlines()[0] == "file,label,score,value_0"
