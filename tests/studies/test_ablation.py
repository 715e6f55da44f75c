"""Ablation: the ladder on the same seeds and splits, differences as `compare` has them, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.cli import main
from opsin.comparison.comparison import compare_runs
from opsin.comparison.paired import holm
from opsin.errors import ConfigError
from opsin.runs import Run
from opsin.studies.ablation import Ablation, ablate

from .conftest import QUICK


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """Two changes and both together, two seeds each."""
    folder = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        changes: dict[str, Any] = {"drop": ["batch-norm"], "swap": ["filters=16"], "seeds": 2}
        return ablate("digits", out=folder, name="ladder", quiet=True, **changes, **QUICK)


def test_the_ladder_has_each_change_alone_and_all_together(found: Ablation) -> None:
    assert [rung.name for rung in found.rungs] == ["as given", "no batch_norm", "filters=16", "all together"]
    configs = [Run(rung.runs[0]).config.model for rung in found.rungs]
    assert [(config.batch_norm, config.filters) for config in configs] == [
        (None, (8,)),
        (False, (8,)),
        (None, (16,)),
        (False, (16,)),
    ]


def test_all_runs_share_seeds_and_splits(found: Ablation) -> None:
    runs = [[Run(run) for run in rung.runs] for rung in found.rungs]
    assert {tuple(run.config.train.seed for run in each) for each in runs} == {(0, 1)}
    assert len({run.data.fingerprint for each in runs for run in each}) == 1
    assert all(run.log.test_openings == 0 for each in runs for run in each)


def test_differences_are_to_the_settings_as_they_are_and_corrected_for_the_changes_alone(found: Ablation) -> None:
    base, *others = found.rungs
    assert base.difference is None
    means = [np.mean([Run(run).scores["val"]["accuracy"].value for run in rung.runs]) for rung in found.rungs]
    assert [rung.difference for rung in others] == pytest.approx([mean - means[0] for mean in means[1:]])
    runs = [Run(run) for rung in found.rungs for run in rung.runs]
    pairs = compare_runs(runs).pairs[:3]
    assert [rung.p_adjusted for rung in others] == pytest.approx(holm([pair.p for pair in pairs]))
    ends = [(rung.difference_low, rung.difference_high) for rung in others]
    assert ends == [(pair.low, pair.high) for pair in pairs]


def test_each_rung_tells_its_cost(found: Ablation) -> None:
    parameters = [Run(rung.runs[0]).summary.parameters for rung in found.rungs]
    assert [rung.parameters for rung in found.rungs] == parameters
    assert all(rung.seconds > 0 for rung in found.rungs)


def test_the_same_question_takes_the_runs_that_are_there(found: Ablation) -> None:
    before = {run: Path(run, "log.jsonl").stat().st_mtime_ns for rung in found.rungs for run in rung.runs}
    changes: dict[str, Any] = {"drop": ["batch-norm"], "swap": ["filters=16"], "seeds": 2}
    again = ablate("digits", out=found.path.parent, name="ladder", quiet=True, **changes, **QUICK)
    assert again == found
    assert {run: Path(run, "log.jsonl").stat().st_mtime_ns for run in before} == before


def test_a_variant_that_diverges_is_named_and_the_rest_is_compared(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"swap": ["optimizer=sgd+lr=1e30", "filters=16"], "seeds": 1}
    result = ablate("digits", out=tmp_path, quiet=True, **changes, **QUICK)
    assert result.diverged == ("optimizer=sgd + lr=1e30", "all together")
    assert [rung.name for rung in result.rungs] == ["as given", "filters=16"]


@pytest.mark.parametrize(
    ("changes", "message"), [({}, "no change was given"), ({"drop": ["batch-norm", "batch_norm"]}, "named twice")]
)
def test_ladders_without_a_meaning_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ablate("digits", out=tmp_path, quiet=True, **changes, **QUICK)


def test_the_command_prints_one_document_and_a_table(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--model", "plain", "--filters", "8", "--epochs", "1", "--subset", "train=150", "--no-preflight"]
    options += ["--precision", "float32", "--channels-last", "--threads", "1", "--runs", str(tmp_path)]
    command = ["ablate", "digits", "--swap", "filters=16", "--seeds", "1", "--name", "one", *options]
    assert main([*command, "--json", "--quiet"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [rung["name"] for rung in document["rungs"]] == ["as given", "filters=16"]
    assert len(document["runs"]) == 2
    assert main(command) == 0
    assert "filters=16" in capfd.readouterr().out
