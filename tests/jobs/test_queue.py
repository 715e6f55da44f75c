"""Commands wait in files, and are run in order within limits, whatever happens to who runs them."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opsin.cli import main
from opsin.errors import ConfigError, RunError
from opsin.jobs.runner import Runner, resident_bytes
from opsin.jobs.store import DONE, FAILED, RUNNING, WAITING, Job, Queue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks that are handed on")
QUICK = ("--version",)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """An empty queue."""
    return Queue(tmp_path / "queue")


def run(queue: Queue, cores: int = 1, memory_bytes: int = 0) -> list[str]:
    """Run all jobs; returns what was said."""
    said: list[str] = []
    Runner(queue, cores=cores, memory_bytes=memory_bytes, say=said.append).run()
    return said


def test_jobs_are_run_in_their_order_one_at_a_time_where_there_is_one_core(queue: Queue) -> None:
    for _ in range(3):
        queue.add(QUICK)
    assert run(queue) == [f"job {number} {state}" for number in (1, 2, 3) for state in ("running", "done")]
    assert [(job.state, job.code, job.tries) for job in queue.jobs()] == [(DONE, 0, 1)] * 3
    assert queue.path(1, "log").read_text().strip()


def test_jobs_run_beside_each_other_where_there_is_room_and_none_overtakes(queue: Queue) -> None:
    for cores in (1, 1, 2, 1):
        queue.add(QUICK, cores=cores)
    said = run(queue, cores=2)
    assert said[:2] == ["job 1 running", "job 2 running"]
    assert said.index("job 3 running") > max(said.index("job 1 done"), said.index("job 2 done"))
    assert said.index("job 4 running") > said.index("job 3 done")


def test_the_note_of_a_failed_job_is_its_error_not_what_to_do(queue: Queue) -> None:
    queue.add(("report", "no-such-run"))
    run(queue)
    (failed,) = queue.jobs()
    said = queue.path(1, "log").read_text().strip().splitlines()
    assert said[-1].startswith("  do:")
    assert failed.note == said[0]
    assert failed.note.startswith("opsin: ")


def test_a_job_that_fails_says_why_and_the_others_go_on(queue: Queue) -> None:
    queue.add(("report", "no-such-run"))
    queue.add(QUICK, cores=2)
    queue.add(QUICK)
    run(queue)
    failed, large, good = queue.jobs()
    assert (failed.state, failed.code, failed.note != "") == (FAILED, 2, True)
    assert (large.state, large.tries, "more than all" in large.note) == (FAILED, 0, True)
    assert good.state == DONE


def test_a_job_whose_processes_are_gone_is_run_again(queue: Queue) -> None:
    job = queue.add(QUICK)
    queue.change(job, state=RUNNING, tries=1)
    run(queue)
    assert [(job.state, job.tries) for job in queue.jobs()] == [(DONE, 2)]


def test_a_job_that_somebody_else_works_on_is_left_to_him(queue: Queue) -> None:
    job = queue.change(queue.add(QUICK), state=RUNNING)
    lock = queue.take(job.number)
    assert lock is not None
    assert run(queue) == []
    os.close(lock)
    assert run(queue) == ["job 1 running: went on after it was lost", "job 1 done"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_job_that_takes_more_memory_than_it_said_is_ended(queue: Queue) -> None:
    assert resident_bytes(os.getsid(0)) > 1_000_000
    queue.add(("models", "--json"), memory_bytes=1000)
    run(queue)
    (job,) = queue.jobs()
    assert job.state == FAILED
    assert "of memory, and had said 1.0 KB" in job.note


def test_a_training_goes_on_with_its_run(tmp_path: Path) -> None:
    arguments = ("train", "digits", "--name=a", "--runs", str(tmp_path))
    job = Job(number=1, arguments=arguments)
    assert job.command()[3:] == list(arguments)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    assert job.command()[3:] == [*arguments, "--resume"]


@pytest.mark.parametrize("arguments", [(), ("train", "digits")], ids=["nothing", "no name"])
def test_what_could_not_go_on_is_refused(arguments: tuple[str, ...], queue: Queue) -> None:
    with pytest.raises(ConfigError):
        queue.add(arguments)
    assert queue.jobs() == []


@pytest.mark.parametrize("content", ["{", "[]", '{"number": 1}', '{"arguments": ["x"], "state": "lost"}'])
def test_a_damaged_file_is_named(content: str, queue: Queue) -> None:
    queue.add(QUICK)
    queue.path(1, "json").write_text(content)
    with pytest.raises(RunError, match=r"0001\.json"):
        queue.jobs()


def test_the_verbs_add_run_and_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = ("--queue", str(tmp_path / "queue"))
    assert main(["queue", "add", *place, "--cores", "1", "--memory-gb", "2", "--", "runs", "list", "--json"]) == 0
    assert main(["queue", "list", *place, "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out.partition("\n")[2])["jobs"]
    assert (job["arguments"], job["memory_bytes"], job["state"]) == (["runs", "list", "--json"], 2_000_000_000, WAITING)
    assert main(["queue", "run", *place, "--quiet", "--json"]) == 3  # there is no folder of runs here
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert job["code"] == 2


def test_commands_that_are_added_at_once_do_not_overwrite_each_other(queue: Queue) -> None:
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda number: queue.add(("explain", f"{number}")), range(40)))
    assert sorted(job.number for job in added) == list(range(1, 41))
    assert {job.arguments for job in queue.jobs()} == {("explain", f"{number}") for number in range(40)}
