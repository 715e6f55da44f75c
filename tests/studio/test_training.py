"""A training is a process of `opsin train`: it is begun, watched, stopped with a checkpoint, and goes on."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from opsin.runs import Run
from opsin.studio.state import Studio

WAIT_S = 120.0


@pytest.fixture
def own_runs(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    studio.runs.folder = tmp_path / "runs"
    return studio.runs.folder


def _until(holds: object, *, what: str) -> None:
    assert callable(holds)
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_a_run_is_started_from_the_form_watched_stopped_and_resumed(
    client: TestClient, studio: Studio, own_runs: Path
) -> None:
    form = {"data": "built-in-digits", "name": "mine", "epochs": "5000", "batch_size": "100", "model": "plain"}
    answer = client.post("/train", data=form, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs/mine"
    assert "mine" in client.get("/").text
    assert client.post("/train", data=form).status_code in (400, 409)
    log = own_runs / "mine" / "log.jsonl"
    _until(lambda: log.is_file() and log.read_text().count('"epoch"') > 2, what="no epoch was logged")
    live = client.get("/runs/mine/live")
    assert "<svg" in live.text
    assert "of 5000" in live.text
    assert "hx-refresh" not in live.headers
    assert "state-training" in client.get("/").text
    client.post("/runs/mine/stop")
    job = studio.jobs.get("mine")
    assert job is not None
    _until(lambda: job.exit_code is not None, what="it did not stop")
    assert job.exit_code == 130
    assert (own_runs / "mine" / "checkpoints" / "LAST").is_file()
    assert client.get("/runs/mine/live").headers["hx-refresh"] == "true"
    stopped = client.get("/runs/mine").text
    assert "Go on training" in stopped
    epochs = len(Run(own_runs / "mine").epochs)
    assert client.post("/runs/mine/resume", follow_redirects=False).status_code == 303
    _until(lambda: len(Run(own_runs / "mine").epochs) > epochs, what="it did not go on")
    client.post("/runs/mine/stop")


def test_a_training_that_fails_is_told_with_its_words(client: TestClient, studio: Studio, own_runs: Path) -> None:
    form = {"data": "built-in-digits", "name": "bad", "model": "alexnet"}  # too small for it
    client.post("/train", data=form)
    job = studio.jobs.get("bad")
    assert job is not None
    _until(lambda: job.exit_code is not None, what="it did not end")
    page = client.get("/runs/bad").text
    assert job.exit_code == 2
    assert "ended" in page
    assert job.lines[0][:20] in page


def test_no_more_than_two_are_trained_at_once_and_all_end_with_the_studio(
    client: TestClient, studio: Studio, own_runs: Path
) -> None:
    form = {"data": "built-in-digits", "epochs": "5000", "model": "plain"}
    for name in ("a", "b"):
        client.post("/train", data=form | {"name": name})
    assert client.post("/train", data=form | {"name": "c"}).status_code == 409
    assert len(studio.jobs.running()) == 2
    studio.jobs.close()
    assert not studio.jobs.running()


def test_a_studio_that_a_script_began_in_the_background_stops_its_trainings(studio: Studio, own_runs: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as such a script has it
    try:
        job = studio.jobs.start("a", ["train", "digits", "--epochs", "5000", "--runs", str(own_runs)])
    finally:
        signal.signal(signal.SIGINT, before)
    studio.jobs.stop("a")
    _until(lambda: job.exit_code is not None, what="it did not stop")


def test_resuming_a_run_of_another_process_that_trains_is_refused(client: TestClient, place: Path) -> None:
    from opsin.runs.lock import is_locked, locked

    folder = place / "runs" / "digits"
    with locked(folder):
        assert is_locked(folder)
        assert client.post("/runs/digits/resume").status_code == 409
        assert '<h2 id="now">Training</h2>' in client.get("/runs/digits").text
    assert not is_locked(folder)


@pytest.mark.parametrize("source", ["https://example.org/photos.zip", "hf://owner/name@main", "--help"])
def test_a_source_that_only_a_run_folder_names_is_neither_fetched_nor_an_option(
    client: TestClient, studio: Studio, tmp_path: Path, place: Path, source: str
) -> None:
    studio.runs.folder = tmp_path / "runs"
    copied = studio.runs.folder / "foreign"
    shutil.copytree(place / "runs" / "digits", copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"source": source}))
    answer = client.post("/runs/foreign/resume")
    assert answer.status_code == 400
    assert studio.jobs.get("foreign") is None
