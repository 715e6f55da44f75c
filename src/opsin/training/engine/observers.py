"""The engine's own callbacks: progress of a training on the terminal."""

from __future__ import annotations

from opsin.progress import Bar
from opsin.training.engine.epoch_lines import EpochLines, EpochResult
from opsin.training.engine.hooks import Callback, EpochContext, StepContext


class ProgressBar(Callback):
    """Updates a progress bar of steps."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def on_step(self, step: StepContext) -> None:
        self.bar.advance(note=f"epoch {step.epoch + 1}")

    def on_epoch(self, epoch: EpochContext) -> None:
        self.bar.at(epoch.step)


class EpochMessages(Callback):
    """Writes a line about an epoch, where one is due.

    Args:
        lines: chooses the epochs.
        main_score: name of the score on val that they show.
    """

    def __init__(self, lines: EpochLines, main_score: str) -> None:
        self.lines, self.main_score = lines, main_score

    def on_epoch(self, epoch: EpochContext) -> None:
        self.lines.epoch(
            EpochResult(
                epoch=epoch.epoch,
                minutes=epoch.seconds / 60,
                seconds=epoch.epoch_seconds,
                loss=epoch.train["loss"],
                val_score=epoch.val.get(self.main_score),
                best=epoch.best,
            )
        )
