"""Reporting the events of a training to the run's log and to the callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from opsin.config import TrainConfig
from opsin.runs import RunWriter
from opsin.training.engine import machine
from opsin.training.engine.clock import Clock
from opsin.training.engine.hooks import Callback, EpochContext, EventContext, StepContext
from opsin.training.engine.state import State
from opsin.types import JsonDict


class Journal:
    """Notifies the log, then the callbacks in order.

    Args:
        run: the run whose log is written.
        state, clock, network, settings: of the training.
        stop: asks the run to end, with a reason.
    """

    def __init__(
        self,
        run: RunWriter,
        state: State,
        clock: Clock,
        network: nn.Module,
        settings: TrainConfig,
        stop: Callable[[str], None],
    ) -> None:
        self.run, self.state, self.clock, self.settings = run, state, clock, settings
        self.network, self.stop = network, stop
        self.callbacks: list[Callback] = []

    def step(self, losses: Mapping[str, Tensor], *, epoch: int, count: int) -> None:
        """A step of `epoch` over `count` images was taken; the state counts it already."""
        context = StepContext(
            step=self.state.step,
            epoch=epoch,
            losses=losses,
            lr=self.state.lr,
            count=count,
            network=self.network,
            stop=self.stop,
        )
        for callback in self.callbacks:
            callback.on_step(context)

    def epoch(self, train: Mapping[str, float], val: Mapping[str, float], *, best: bool, began_s: float) -> None:
        """An epoch has ended that began at `began_s` seconds of training; the state counts it already."""
        record = self._record(train, val, best=best)
        self.run.event("epoch", **record)
        seconds = self.clock.seconds()
        context = EpochContext(
            epoch=self.state.epoch,
            num_epochs=self.settings.epochs,
            step=self.state.step,
            train=train,
            val=val,
            best=best,
            lr=self.state.lr,
            seconds=seconds,
            epoch_seconds=seconds - began_s,
            record=record,
            network=self.network,
            stop=self.stop,
        )
        for callback in self.callbacks:
            callback.on_epoch(context)

    def event(self, name: str, message: str, **values: object) -> None:
        """Something else happened."""
        self.run.event(name, step=self.state.step, message=message, **values)
        context = EventContext(name=name, step=self.state.step, message=message, values=values)
        for callback in self.callbacks:
            callback.on_event(context)

    def _record(self, train: Mapping[str, float], val: Mapping[str, float], *, best: bool) -> JsonDict:
        """The log record of the finished epoch."""
        seconds = self.clock.seconds()
        return {
            "epoch": self.state.epoch,
            "step": self.state.step,
            "seconds": round(seconds, 3),
            "lr": self.state.lr,
            "train": train,
            "val": val,
            "images_per_second": round(self.state.step * self.settings.batch_size / max(seconds, 1e-9), 1),
            "cpu_percent": self.clock.usage.cpu_percent(),
            "peak_memory_bytes": machine.peak_memory_bytes(),
            "best": best,
            **machine.gpu_usage(next(self.network.parameters()).device),
        }
