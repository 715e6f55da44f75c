"""A run that is killed, interrupted or runs out of disk ends, once resumed, with the bits of an unbroken one."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
from kill_and_resume import WEIGHTS, Unbroken, broken, draw_moments, finish, start, unbroken

from opsin.cli import main
from opsin.io.temporary import is_temporary
from opsin.runs import Run

NETWORK = ("--model", "plain", "--filters", "8", "--optimizer", "adam", "--schedule", "cosine")
MACHINE = ("--precision", "float32", "--channels-last", "--threads", "1")
QUICK = ("--epochs", "4", "--batch-size", "50", "--subset", "train=400", "--shift", "1", *NETWORK, *MACHINE)
ENDLESS = "100000"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The unbroken run."""
    return unbroken(tmp_path_factory.mktemp("reference"), QUICK)


def test_sigkill_at_random_moments_changes_no_bit_of_the_result(tmp_path: Path, reference: Unbroken) -> None:
    moments = draw_moments(random.Random(1), 3, reference, tmp_path / "broken")
    trial = broken(tmp_path, "broken", QUICK, moments)
    assert trial.weights == reference.weights
    assert trial.epochs == [1, 2, 3, 4]


def test_ctrl_c_exits_with_130_and_leaves_a_checkpoint_that_goes_on(tmp_path: Path) -> None:
    longer = ("--epochs", ENDLESS, *QUICK[2:])
    process = start(tmp_path, "stopped", longer)
    log = tmp_path / "stopped" / "log.jsonl"
    wait_for(lambda: log.exists() and '"epoch"' in log.read_text(encoding="utf-8"))
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=400)
    assert process.returncode == 130, messages
    assert "Traceback" not in messages
    step = int((tmp_path / "stopped" / "checkpoints" / "LAST").read_text().removeprefix("step-"))
    more = ("--epochs", str(step // 8 + 1), *QUICK[2:])
    finish(start(tmp_path, "stopped", more, resume=True))
    assert [row["step"] for row in Run(tmp_path / "stopped").log if row["event"] == "resume"] == [step]


def wait_for(holds: object, seconds: float = 400) -> None:
    """Wait until `holds()` is true."""
    assert callable(holds)
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 13, 21, 34])
def test_a_full_disk_is_refused_and_the_run_goes_on_when_there_is_space(
    number: int,
    tmp_path: Path,
    reference: Unbroken,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    command = ["train", "digits", "--name", "full", "--out", str(tmp_path), "--quiet", "--checkpoint-minutes", "0.001"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_from(number))
        assert main([*command, *QUICK]) == 2
    assert "No space left" in capsys.readouterr().err
    assert [str(path) for path in tmp_path.rglob("*") if is_temporary(path)] == []
    resume = ["--resume"] if (tmp_path / "full").exists() else []
    assert main([*command, *QUICK, *resume]) == 0
    assert (tmp_path / "full" / WEIGHTS).read_bytes() == reference.weights
    assert [row["epoch"] for row in Run(tmp_path / "full").log if row["event"] == "epoch"] == [1, 2, 3, 4]


def failing_from(number: int) -> object:
    """An fsync that fails at its `number`-th call and ever after, as on a disk that has filled up."""
    calls = 0
    fsync = os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    return full
