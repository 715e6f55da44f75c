"""A process of a group that is killed costs the steps since the last checkpoint, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from kill_a_worker import members
from torch.distributed.launcher.api import LaunchConfig

from opsin.runs import Run

SETTINGS = ("--subset", "train=300,val=50", "--model", "plain", "--filters", "4", "--dense", "8")
FIXED = ("--precision", "float32", "--channels-last", "--threads", "1", "--checkpoint-minutes", "0.001", "--quiet")
EPOCHS = 12
SECONDS = 300


def command(out: Path, name: str, epochs: int = EPOCHS) -> list[str]:
    """A run of two processes."""
    places = ["train", "digits", "--devices", "2", "--name", name, "--runs", str(out)]
    return [sys.executable, "-m", "opsin", *places, "--epochs", str(epochs), *SETTINGS, *FIXED]


def wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_killed_process_starts_the_group_again_from_its_last_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path, "killed"), stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "killed" / "checkpoints" / "LAST").exists)
    lead, _ = members(process.pid)
    os.kill(lead, signal.SIGKILL)
    _, messages = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, messages
    run = Run(tmp_path / "killed")
    assert [event.event for event in run.log].count("resume") == 1
    assert [epoch.epoch for epoch in run.log.epochs] == list(range(1, EPOCHS + 1))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processes_whose_launcher_is_killed_stop_and_leave_a_run_to_resume(tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path, "left", epochs=2000), stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "left" / "checkpoints" / "LAST").exists)
    group = members(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{member}").exists() for member in group))
    assert Run(tmp_path / "left").log[-1].event == "interrupt"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(
    not any(field.name == "signals_to_handle" for field in fields(LaunchConfig)), reason="PyTorch's agent waits 30 s"
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_all_soon_and_leaves_a_run_to_resume(tmp_path: Path, number: int) -> None:
    """Ctrl-C goes to the whole group, as from a terminal."""
    process = subprocess.Popen(
        command(tmp_path, "left", epochs=2000), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until((tmp_path / "left" / "checkpoints" / "LAST").exists)
    began = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, told = process.communicate(timeout=25)  # the agent itself waits for 30 s
    assert time.monotonic() - began < 25
    assert process.returncode == 130
    assert "a checkpoint was left" in told
    assert "death signal" not in told
    assert Run(tmp_path / "left").log[-1].event == "interrupt"
