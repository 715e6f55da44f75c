from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opsin.config import resolve
from opsin.errors import RunError, SealedSplitError
from opsin.io.files import write_json
from opsin.runs import Run, RunWriter, list_runs, next_name, read_gallery


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    return RunWriter.create(resolve({"epochs": 3}), name="one", out=tmp_path)


@pytest.fixture
def run(writer: RunWriter) -> Run:
    return writer.run


def test_a_new_run_holds_its_config_and_nothing_else(run: Run) -> None:
    assert [path.name for path in run.path.iterdir()] == ["config.json"]
    assert run.config.train.epochs == 3
    assert (list(run.log), run.scores, read_gallery(run.path)) == ([], {}, {})
    assert not any((run.data, run.environment, run.summary))


def test_a_run_whose_config_has_a_former_name_opens(run: Run) -> None:
    stored = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    stored["augment"]["policy"] = "randaugment"
    write_json(run.path / "config.json", stored)
    assert run.config.augment.policy == "random_ops"


@pytest.mark.parametrize("name", ["", "../up", "a/b", "-x", "a b", "x" * 200, "nul\0"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="invalid name"):
        RunWriter.create(resolve(), name=name, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_run_is_refused_with_the_nearest_one(run: Run) -> None:
    with pytest.raises(RunError) as caught:
        Run.open("onne", out=run.path.parent)
    assert "`one`" in str(caught.value.do)


def test_a_run_opens_by_name_and_by_path(run: Run) -> None:
    assert Run.open("one", out=run.path.parent).path == run.path
    assert Run.open(run.path).path == run.path


def test_a_path_without_a_run_is_named_as_it_was_typed_beside_the_runs_there(run: Run) -> None:
    typed = run.path.parent / "onne"
    with pytest.raises(RunError) as caught:
        Run.open(typed, out=run.path.parent)
    assert caught.value.where == typed
    assert "`one`" in str(caught.value.do)


def test_a_line_that_a_crash_cut_off_is_not_part_of_the_log(writer: RunWriter, run: Run) -> None:
    writer.event("start", epochs=3)
    with (run.path / "log.jsonl").open("ab") as log:
        log.write(b'{"event": "epo')
    assert [event["event"] for event in run.log] == ["start"]
    writer.event("finish")
    assert [event["event"] for event in run.log] == ["start", "finish"]


def test_rewinding_drops_the_epochs_that_will_be_trained_again_and_keeps_the_events(
    writer: RunWriter, run: Run
) -> None:
    for step in (10, 20, 30):
        writer.event("epoch", epoch=step // 10, step=step)
    writer.event("memory_guard", message="x")
    writer.rewind(2)
    assert [event.get("step") for event in run.log] == [10, 20, None]


def test_each_opening_of_the_test_split_is_counted(writer: RunWriter, run: Run) -> None:
    assert run.log.test_openings == 0
    assert [writer.record_test_opening("opsin evaluate one"), writer.record_test_opening("again")] == [
        1,
        2,
    ]


def test_predictions_are_told_apart_by_their_split(writer: RunWriter, run: Run) -> None:
    arrays = {"val/labels": np.arange(3), "test/labels": np.arange(2)}
    writer.predictions(arrays)
    assert run.predictions("val")["labels"].tolist() == [0, 1, 2]
    assert run.predictions("test")["labels"].tolist() == [0, 1]
    assert run.predictions("train") == {}


def test_the_next_name_is_the_first_free_number(run: Run) -> None:
    out = run.path.parent
    assert next_name("my photos/x", out) == "my-photos-x-1"
    RunWriter.create(resolve(), name="digits-small-1", out=out)
    assert next_name("digits-small", out) == "digits-small-2"
    assert set(list_runs(out)) == {"one", "digits-small-1"}


@pytest.mark.parametrize("stem", ["_photos-small", "+x", "x" * 300, "...", "фото-small", "-_-"])
def test_whatever_data_are_called_a_run_of_them_can_be_made(tmp_path: Path, stem: str) -> None:
    name = next_name(stem, tmp_path)
    assert RunWriter.create(resolve(), name=name, out=tmp_path).name == name


def test_a_run_whose_making_was_interrupted_is_not_listed(run: Run) -> None:
    write_json(run.path.parent / ".two.a1b2.tmp" / "config.json", {})
    assert list_runs(run.path.parent) == ["one"]


@pytest.mark.parametrize("line", ["garbage", "3", "[]", "{}", '{"event": 3}', '{"event": "epoch"}', "\udcff"])
def test_a_log_with_a_line_that_is_no_event_is_refused_with_the_line(writer: RunWriter, run: Run, line: str) -> None:
    writer.event("start")
    with (run.path / "log.jsonl").open("ab") as log:
        log.write(line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(RunError, match=r"log\.jsonl, line 2"):
        _ = run.log


@pytest.mark.parametrize("scores", [[], 3, {"val": 3}])
def test_scores_that_are_no_json_objects_are_refused(run: Run, scores: object) -> None:
    write_json(run.path / "scores.json", scores)
    with pytest.raises(RunError, match=r"scores\.json"):
        _ = run.scores


def test_scores_are_told_by_split_and_name_with_their_intervals(run: Run) -> None:
    accuracy = {"value": 0.9, "low": 0.8, "high": None}
    write_json(run.path / "scores.json", {"val": {"n": 10, "scores": {"accuracy": accuracy}}})
    assert str(run.scores["val"]["accuracy"]) == "0.9000 [0.8000, nan]"


def test_a_folder_that_is_no_run_is_named_as_it_was_typed_and_runs_inside_are_offered(run: Run) -> None:
    with pytest.raises(RunError) as caught:
        Run.open(run.path.parent)
    assert caught.value.where == run.path.parent
    assert str(run.path) in str(caught.value.do)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock a folder")
def test_one_process_at_a_time_trains_a_run(writer: RunWriter, run: Run) -> None:
    with writer.locked(), pytest.raises(RunError, match="another process"), RunWriter(Run(run.path)).locked():
        pass
    with RunWriter(Run(run.path)).locked():
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock a folder")
def test_a_lock_ends_with_the_process_that_holds_it(writer: RunWriter, run: Run) -> None:
    code = (
        "import sys; from opsin.runs import Run, RunWriter\n"
        "with RunWriter(Run(sys.argv[1])).locked(): print('locked', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunError, match="another process"), writer.locked():
            pass
        holder.kill()
        holder.wait(60)
    with writer.locked():
        pass


def test_what_a_killed_process_left_half_written_is_removed_when_the_run_goes_on(writer: RunWriter, run: Run) -> None:
    (run.path / "checkpoints" / ".step-000003.77-ab.tmp").mkdir(parents=True)
    (run.path / "checkpoints" / ".step-000003.77-ab.tmp" / "tensors.safetensors").write_bytes(b"x")
    (run.path / ".scores.json.77-ab.tmp").write_bytes(b"x")
    (run.path / "checkpoints" / "step-000002").mkdir()
    with writer.locked():
        pass
    assert sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*")) == [
        "checkpoints",
        "checkpoints/step-000002",
        "config.json",
    ]


def test_scores_of_a_sealed_test_split_are_refused_with_the_way_to_open_it(run: Run) -> None:
    write_json(run.path / "data.json", {"splits": {"val": {"n": 1}, "test": {"n": 1}}})
    write_json(run.path / "scores.json", {"val": {"scores": {}}})
    with pytest.raises(SealedSplitError, match=r"(?s)the test split is sealed.*evaluate .* --split test"):
        run.scores["test"]
    with pytest.raises(KeyError):
        run.scores["nothing"]
    assert run.scores.get("test") is None


def test_abandoned_folders_of_runs_are_removed_when_the_next_is_made(run: Run) -> None:
    left = run.path.parent / ".two.77-ab12cd34.tmp"
    left.mkdir()
    os.utime(left, (1, 1))
    RunWriter.create(run.config, name="three", out=run.path.parent)
    assert not left.exists()


def test_arrays_of_objects_are_not_written_and_names_are_kept(tmp_path: Path) -> None:
    writer = RunWriter.create(resolve(), name="arrays", out=tmp_path)
    writer.gallery({"samples": np.zeros(2, np.uint8)})
    assert list(read_gallery(writer.path)) == ["samples"]
    with pytest.raises(RunError, match="objects"):
        writer.gallery({"mixed": np.array([{}, []], dtype=object)})
