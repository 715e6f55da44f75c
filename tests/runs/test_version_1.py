"""Run folders of version 1, kept in fixtures/v1, are read, reported, evaluated and predicted with by this version."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.evaluation import Evaluation
from opsin.io.images import encode_png
from opsin.runs import Run, RunWriter
from opsin.runs.codec import to_json

FIXTURES = Path(__file__).parent / "fixtures" / "v1"
RUNS = {"digits": "classify", "digit_scenes": "localize", "digit_masks": "segment"}
RECORDS = ("data.json", "environment.json", "summary.json", "scores.json")


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A copy of a kept run."""
    return Run(shutil.copytree(FIXTURES / request.param, tmp_path / request.param))


@pytest.fixture
def digits(tmp_path: Path) -> Run:
    return Run(shutil.copytree(FIXTURES / "digits", tmp_path / "digits"))


def test_its_files_are_read_into_records(run: Run) -> None:
    assert run.task == RUNS[run.name]
    assert run.data.name == run.summary.data == run.name
    assert run.data.splits["val"].n == run.scores["val"].n == len(run.predictions("val")["ids"])
    assert run.environment.precision == "float32"
    assert [epoch.epoch for epoch in run.log.epochs] == [1, 2]
    assert run.log[-1].event == "finish"
    assert all(score.low <= score.high for score in run.scores["val"].values() if score.low == score.low)


def test_a_record_that_is_written_again_holds_what_the_file_held(run: Run) -> None:
    before = {file: json.loads((run.path / file).read_text()) for file in RECORDS}
    writer = RunWriter(run)
    writer.data(run.data)
    writer.environment(run.environment)
    writer.summary(run.summary)
    writer.scores(run.scores)
    after = {file: json.loads((run.path / file).read_text()) for file in RECORDS}
    assert after.pop("data.json") == before.pop("data.json") | {"version": 1}
    assert after == before


def test_its_report_is_written(run: Run) -> None:
    page = run.report()
    assert page == run.path / "report.html"
    assert run.name in page.read_text(encoding="utf-8")


def test_its_network_scores_as_it_did(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    found: Evaluation = opsin.evaluate(run, device="cpu")
    assert found.n == run.scores["val"].n
    assert found.scores
    for name, score in found.scores.items():
        assert score.value == pytest.approx(run.scores["val"][name].value, abs=1e-5, nan_ok=True), name


def test_its_network_predicts(run: Run, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode_png(np.random.default_rng(0).integers(0, 256, (3, 30, 20), dtype=np.uint8)))
    found = run.predict(photo, device="cpu")
    assert found.file == str(photo)
    assert 0 <= found.score <= 1


def test_what_was_scored_on_request_is_read_too(digits: Run) -> None:
    val, test = digits.scores["val"], digits.scores["test"]
    assert val.without_copies is not None
    assert (val.without_copies.n, val.without_copies.near) == (40, None)
    assert val.tta is not None
    assert val.tta.views == ("shift",)
    assert val.selection is not None
    assert val.selection.best_epoch == digits.summary.best_epoch == 2
    assert test.opened == digits.log.test_openings == 1


def test_reading_changes_no_byte(run: Run) -> None:
    def digest() -> list[str]:
        files = sorted(path for path in run.path.rglob("*") if path.is_file())
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    before = digest()
    _ = run.config, run.data, run.environment, run.summary, run.scores, run.log, run.network()
    assert digest() == before
    assert to_json(run.summary)["run"].endswith(run.name)
