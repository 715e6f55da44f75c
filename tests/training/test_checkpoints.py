"""A checkpoint is whole: what was altered, is missing or impossible falls back to the one before, and that is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from opsin.errors import RunError
from opsin.io.files import read_json, sha256_file, write_json
from opsin.progress import Reporter
from opsin.runs import Run, RunWriter
from opsin.training.engine.checkpoints import Checkpoint, load, save

Quick = Callable[..., Run]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of steps 1 and 2."""
    for step in (1, 2):
        save(tmp_path / "checkpoints", Checkpoint({"network.a": torch.full((2,), float(step))}, {"step": step}))
    return tmp_path / "checkpoints"


def loaded(folder: Path) -> tuple[int, list[str]]:
    said: list[str] = []
    found = load(folder, report=Reporter(quiet=True), say=said.append)
    assert found is not None
    return found.state["step"], said


def change_state(folder: Path, **values: Any) -> None:
    path = folder / "step-000002" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def write_state(folder: Path, value: Any) -> None:
    """A state with a manifest that vouches for it: as a faulty program would write it."""
    path = folder / "step-000002" / "state.json"
    path.write_text(json.dumps(value))
    manifest = read_json(path.parent / "manifest.json") | {"state.json": sha256_file(path)}
    write_json(path.parent / "manifest.json", manifest)


@pytest.mark.parametrize("values", [{"best_score": 2.0}, {"epoch": 1}, {"odd": 1}])
def test_an_altered_state_falls_back_to_the_checkpoint_before(folder: Path, values: dict[str, Any]) -> None:
    change_state(folder, **values)
    step, said = loaded(folder)
    assert step == 1
    assert "step-000002 cannot be read (state.json does not match its hash)" in said[0]


@pytest.mark.parametrize(
    "value", [[], {}, {"step": -2}, {"step": 2, "odd": 1}, {"step": 2, "epoch": "1"}, {"step": 2, "sums": [1]}], ids=str
)
def test_an_impossible_state_is_no_traceback(folder: Path, value: Any) -> None:
    write_state(folder, value)
    assert loaded(folder)[0] == 1


@pytest.mark.parametrize("file", ["state.json", "manifest.json", "tensors.safetensors", ""])
def test_a_missing_part_falls_back_and_is_said(folder: Path, file: str) -> None:
    if file:
        (folder / "step-000002" / file).unlink()
    else:
        shutil.rmtree(folder / "step-000002")
    step, said = loaded(folder)
    assert step == 1
    assert len(said) == 1
    assert "step-000002" in said[0]


def test_where_none_can_be_read_the_run_is_refused(folder: Path) -> None:
    for name in ("step-000001", "step-000002"):
        (folder / name / "manifest.json").write_text("[]")
    with pytest.raises(RunError, match="no checkpoint of this run can be read"):
        load(folder, report=Reporter(quiet=True))


def test_a_checkpoint_of_an_earlier_version_is_read(folder: Path) -> None:
    (folder / "step-000002" / "manifest.json").unlink()
    change_state(folder, tensors_sha256=sha256_file(folder / "step-000002" / "tensors.safetensors"))
    assert loaded(folder) == (2, [])


def test_a_newer_checkpoint_that_could_not_be_read_goes_when_the_run_goes_on(folder: Path) -> None:
    change_state(folder, epoch=1)
    save(folder, Checkpoint({}, {"step": 1}))
    assert sorted(path.name for path in folder.iterdir()) == ["LAST", "step-000001"]


def test_a_resumed_run_logs_that_it_fell_back(quick_run: Quick) -> None:
    run = quick_run("fallback", checkpoint_minutes=1e-9)
    newest = sorted(RunWriter(run).checkpoints_folder.glob("step-*"))[-1]
    (newest / "state.json").write_text("[]")
    again = quick_run("fallback", checkpoint_minutes=1e-9, resume=True)
    said = [event["message"] for event in again.log if event["event"] == "checkpoint_fallback"]
    assert len(said) == 1
    assert newest.name in said[0]
    assert [epoch.epoch for epoch in again.log.epochs] == [1, 2, 3]


def test_a_damaged_log_and_cut_scores_do_not_keep_a_run_from_going_on(
    quick_run: Quick, capsys: pytest.CaptureFixture[str]
) -> None:
    run = quick_run("damaged", open_test=True)
    log = (run.path / "log.jsonl").read_bytes().splitlines(keepends=True)
    opened = next(i for i, line in enumerate(log) if b"test_opened" in line)
    log[opened] = log[opened][:-9] + b"\n"
    (run.path / "log.jsonl").write_bytes(b"".join(log))
    for file in ("scores.json", "predictions.npz"):
        path = run.path / file
        path.write_bytes(path.read_bytes()[:100])
    again = quick_run("damaged", resume=True, quiet=False)
    assert "accuracy" in again.scores["val"]
    assert again.log.test_openings == 1
    said = [event["message"] for event in again.log if event["event"] == "repair"]
    assert ["1 damaged line" in said[0], "scores.json" in said[1], "predictions.npz" in said[2]] == [True] * 3
    assert "1 damaged line of log.jsonl" in capsys.readouterr().err
