"""Cross-validation: predictions of what a network has not seen, means with intervals, and going on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import opsin
from opsin.cli import main
from opsin.errors import RunError
from opsin.io.arrays import read_npz
from opsin.io.tables import read_table
from opsin.studies.cross_validation import CrossValidation, cross_validate, mean_over_folds

from .conftest import QUICK


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Three folds of digits."""
    folder = tmp_path_factory.mktemp("cv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        return cross_validate("digits", folds=3, out=folder, name="cv", quiet=True, **QUICK)


def test_predictions_stand_in_the_order_of_the_development_samples(found: CrossValidation) -> None:
    dataset = opsin.load("digits", config=found.runs[0].config.data)
    ids = [*dataset.splits["train"].ids, *dataset.splits["val"].ids]
    labels = np.concatenate([np.asarray(dataset.splits[split].labels) for split in ("train", "val")])
    assert list(found.out_of_fold.ids) == ids
    assert found.out_of_fold.targets.labels is not None
    assert (found.out_of_fold.targets.labels == labels).all()
    assert found.out_of_fold.predictions["probabilities"].shape == (len(ids), 10)
    assert np.allclose(found.out_of_fold.predictions["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_each_sample_was_predicted_by_the_run_that_did_not_see_it(found: CrossValidation) -> None:
    for number, run in enumerate(found.runs):
        held = np.flatnonzero(found.out_of_fold.fold == number)
        seen = set(run.predictions("val")["ids"].tolist())
        assert not seen & {found.out_of_fold.ids[row] for row in held}
        assert run.data.splits["train"].n + run.data.splits["val"].n + len(held) == len(found.out_of_fold)
        assert run.log.test_openings == 0


def test_scores_of_folds_and_of_all_samples_agree(found: CrossValidation) -> None:
    right = found.out_of_fold.predictions["probabilities"].argmax(axis=1) == found.out_of_fold.targets.labels
    by_fold = [float(right[found.out_of_fold.fold == k].mean()) for k in range(3)]
    assert [scores["accuracy"] for scores in found.by_fold] == pytest.approx(by_fold)
    assert found.scores["accuracy"].value == pytest.approx(np.mean(by_fold))
    assert found.pooled["accuracy"].value == pytest.approx(right.mean())


def test_what_was_found_is_kept_as_arrays_and_as_a_table(found: CrossValidation) -> None:
    arrays = read_npz(found.path / "out_of_fold.npz")
    rows = read_table(found.path / "out_of_fold.csv")
    assert (arrays["probabilities"] == found.out_of_fold.predictions["probabilities"]).all()
    assert [row["id"] for row in rows] == list(found.out_of_fold.ids)
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    share = arrays["probabilities"][0, int(rows[0]["label"])]
    assert float(rows[0]["probability_of_label"]) == pytest.approx(float(share), rel=1e-5)


def test_the_same_question_takes_the_runs_that_are_there(found: CrossValidation) -> None:
    before = [(run.path / "model" / "weights.safetensors").stat().st_mtime_ns for run in found.runs]
    again = cross_validate("digits", folds=3, out=found.path.parent, name="cv", quiet=True, **QUICK)
    assert again.to_dict() == found.to_dict()
    assert [(run.path / "model" / "weights.safetensors").stat().st_mtime_ns for run in again.runs] == before


def test_another_question_under_the_same_name_is_refused(found: CrossValidation) -> None:
    with pytest.raises(RunError, match="with another request"):
        cross_validate("digits", folds=4, out=found.path.parent, name="cv", quiet=True, **QUICK)


def test_the_interval_over_folds_is_the_corrected_one_of_nadeau_and_bengio() -> None:
    score = mean_over_folds([0.80, 0.84, 0.88], [100, 100, 100])
    half = stats.t.ppf(0.975, 2) * math.sqrt(0.04**2 * (1 / 3 + 100 / 200))
    assert (score.value, score.high - score.value) == pytest.approx((0.84, half))


def test_a_score_that_no_fold_defines_is_undefined() -> None:
    assert math.isnan(mean_over_folds([math.nan, math.nan], [5, 5]).value)
    assert mean_over_folds([0.5, math.nan], [5, 5]).value == 0.5


def test_the_command_prints_one_document(
    found: CrossValidation, capfd: pytest.CaptureFixture[str], quick: dict[str, Any], tmp_path: Path
) -> None:
    options = ["--model", "plain", "--filters", "8", "--epochs", "1", "--subset", "train=150", "--no-preflight"]
    options += ["--precision", "float32", "--channels-last", "--threads", "1", "--runs", str(tmp_path)]
    assert main(["cv", "digits", "--folds", "2", "--json", "--quiet", *options]) == 0
    document = json.loads(capfd.readouterr().out)
    assert set(document["scores"]["accuracy"]) == {"value", "low", "high"}
    assert len(document["runs"]) == 2
