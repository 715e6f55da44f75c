"""A process of a group that is killed costs the steps since the last checkpoint, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill_a_worker import members

from opsin.runs import Run

SETTINGS = ("--epochs", "12", "--subset", "train=300,val=50", "--model", "plain", "--filters", "4", "--dense", "8")
FIXED = ("--precision", "float32", "--channels-last", "--threads", "1", "--checkpoint-minutes", "0.001", "--quiet")
SECONDS = 300


def command(out: Path, name: str) -> list[str]:
    """A run of two processes."""
    places = ["train", "digits", "--devices", "2", "--name", name, "--runs", str(out)]
    return [sys.executable, "-m", "opsin", *places, *SETTINGS, *FIXED]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_killed_process_starts_the_group_again_from_its_last_checkpoint(tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path, "killed"), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + SECONDS
    while not (tmp_path / "killed" / "checkpoints" / "LAST").exists() and time.monotonic() < until:
        time.sleep(0.02)
    lead, _ = members(process.pid)
    os.kill(lead, signal.SIGKILL)
    _, messages = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, messages
    run = Run(tmp_path / "killed")
    assert [event.event for event in run.log].count("resume") == 1
    assert [epoch.epoch for epoch in run.log.epochs] == list(range(1, 13))
