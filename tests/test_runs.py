from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin.config import resolve
from opsin.errors import RunError
from opsin.runs import Run, list_runs, next_name


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(resolve({"epochs": 3}), name="one", out=tmp_path)


def test_a_new_run_holds_its_config_and_nothing_else(run: Run) -> None:
    assert [path.name for path in run.path.iterdir()] == ["config.json"]
    assert run.config.train.epochs == 3
    assert (run.log, run.scores, run.summary, run.gallery()) == ([], {}, {}, {})


@pytest.mark.parametrize("name", ["", "../up", "a/b", "-x", "a b", "x" * 200, "nul\0"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="not a name"):
        Run.create(resolve(), name=name, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_run_is_refused_with_the_nearest_one(run: Run) -> None:
    with pytest.raises(RunError) as caught:
        Run.open("onne", out=run.path.parent)
    assert "`one`" in str(caught.value.do)


def test_a_run_opens_by_name_and_by_path(run: Run) -> None:
    assert Run.open("one", out=run.path.parent).path == run.path
    assert Run.open(run.path).path == run.path


def test_a_line_that_a_crash_cut_off_is_not_part_of_the_log(run: Run) -> None:
    run.event("start", epochs=3)
    with (run.path / "log.jsonl").open("ab") as log:
        log.write(b'{"event": "epo')
    assert [event["event"] for event in run.log] == ["start"]
    run.event("finish")
    assert [event["event"] for event in run.log] == ["start", "finish"]


def test_rewinding_drops_the_epochs_that_will_be_trained_again_and_keeps_the_events(run: Run) -> None:
    for step in (10, 20, 30):
        run.event("epoch", epoch=step // 10, step=step)
    run.event("memory_guard", message="x")
    run.rewind(2)
    assert [event.get("step") for event in run.log] == [10, 20, None]


def test_each_opening_of_the_test_split_is_counted(run: Run) -> None:
    assert run.test_openings == 0
    assert [run.record_test_opening("opsin evaluate one"), run.record_test_opening("again")] == [1, 2]


def test_predictions_are_told_apart_by_their_split(run: Run) -> None:
    arrays = {"val/labels": np.arange(3), "test/labels": np.arange(2)}
    run.write_arrays("predictions.npz", arrays)
    assert run.predictions("val")["labels"].tolist() == [0, 1, 2]
    assert run.predictions("test")["labels"].tolist() == [0, 1]
    assert run.predictions("train") == {}


def test_the_next_name_is_the_first_free_number(run: Run) -> None:
    out = run.path.parent
    assert next_name("my photos/x", out) == "my-photos-x-1"
    Run.create(resolve(), name="digits-small-1", out=out)
    assert next_name("digits-small", out) == "digits-small-2"
    assert set(list_runs(out)) == {"one", "digits-small-1"}
