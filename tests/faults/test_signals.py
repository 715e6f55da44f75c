"""A run that is asked to end at any moment says so, exits with 130, and can be resumed or has left nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsin.cli import main
from opsin.errors import InterruptedRunError
from opsin.runs import Run
from opsin.training import session
from opsin.training.engine.loop import Trainer
from opsin.training.setup import preparing

QUICK = ("--epochs", "1", "--subset", "train=200", "--filters", "4", "--model", "plain", "--threads", "1", "--quiet")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")


@pytest.fixture(autouse=True)
def default_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process as a terminal starts it, and a cache of its own."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def sending(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, during which the process gets the signal."""

    def called(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return function(*arguments, **options)

    return called


def train(out: Path, *more: str) -> int:
    return main(["train", "digits", "--name", "stopped", "--out", str(out), *QUICK, *more])


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_data_is_packed_leaves_no_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preparing, "pack", sending(number, preparing.pack))
    assert train(tmp_path) == 130
    assert f"interrupted by {signal.Signals(number).name}" in capsys.readouterr().err
    assert not (tmp_path / "stopped").exists()


@pytest.mark.parametrize("place", ["choose_precision", "preflight", "finish"])
def test_a_signal_around_the_training_loop_leaves_a_run_that_goes_on(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session, place, sending(signal.SIGTERM, getattr(session, place)))
        assert train(tmp_path) == 130
    message = capsys.readouterr().err
    assert "stopped by SIGTERM" in message
    assert f"--name stopped --runs {tmp_path} --resume" in message
    assert train(tmp_path, "--resume") == 0
    events = [event["event"] for event in Run(tmp_path / "stopped").log]
    assert events.count("preflight") == 1
    assert events[-1] == "finish"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_a_step_leaves_a_checkpoint(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_step", sending(number, Trainer._step))
    assert train(tmp_path) == 130
    assert (tmp_path / "stopped" / "checkpoints" / "LAST").is_file()


def test_a_signal_while_the_last_epoch_is_scored_ends_the_run_before_its_final_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_epoch", sending(signal.SIGTERM, Trainer._end_epoch))
        assert train(tmp_path) == 130
    assert not (tmp_path / "stopped" / "scores.json").exists()
    assert train(tmp_path, "--resume") == 0


def test_python_gets_the_same_error_and_its_own_handlers_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(session, "preflight", sending(signal.SIGHUP, session.preflight))
    with pytest.raises(InterruptedRunError, match="SIGHUP"):
        session.train(
            "digits", name="api", out=tmp_path, epochs=1, subset="train=200", filters=[4], model="plain", quiet=True
        )
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_nohup_keeps_a_run_from_a_hangup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(Trainer, "_step", sending(signal.SIGHUP, Trainer._step))
    assert train(tmp_path) == 0


LOST_TERMINAL = """
import os, sys
from opsin.cli import main
from opsin.training.engine.loop import Trainer
step = Trainer._step
def hung_up(self, *arguments, **options):
    step(self, *arguments, **options)
    if self.state.step == 2:
        os.close(int(sys.argv[1]))  # the last hold on the terminal: the kernel sends SIGHUP
        import time; time.sleep(1)
Trainer._step = hung_up
sys.exit(main(sys.argv[2:]))
"""


def test_a_lost_terminal_does_not_keep_the_checkpoint_from_being_written(tmp_path: Path) -> None:
    import fcntl
    import termios

    controller, terminal = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    command = ["train", "digits", "--name", "lost", "--out", str(tmp_path), *QUICK[:-1], "--batch-size", "10"]
    process = subprocess.Popen(
        [sys.executable, "-c", LOST_TERMINAL, str(controller), *command],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        pass_fds=(controller,),
        preexec_fn=take_terminal,
    )
    os.close(controller)
    os.close(terminal)
    assert process.wait(timeout=300) == 130
    assert (tmp_path / "lost" / "checkpoints" / "LAST").is_file()
    assert Run(tmp_path / "lost").log[-1]["event"] == "interrupt"
