"""The weights a run keeps: their moving average, and those of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from opsin.training.engine.ema import MovingAverage
from opsin.training.engine.hooks import Callback, StepContext
from opsin.training.engine.shards import divided_like
from opsin.training.engine.state import State


class KeptWeights(Callback):
    """Weights of a run that are kept in addition to the trained ones.

    Args:
        network: that is trained.
        decay: of the moving average; 0 keeps none.
        restores_best: whether the best epoch's weights are those that the run ends with.
    """

    def __init__(self, network: nn.Module, *, decay: float, restores_best: bool) -> None:
        self.network, self.restores_best = network, restores_best
        self.average = MovingAverage(network, decay) if decay else None
        self.best: dict[str, Tensor] = {}

    def on_step(self, step: StepContext) -> None:
        if self.average:
            self.average.update(step.step)

    @property
    def present(self) -> Mapping[str, Tensor]:
        """The weights that are scored: the average, or the network's own."""
        return self.average.tensors if self.average else self.network.state_dict()

    @contextmanager
    def scored(self) -> Iterator[None]:
        """Context in which the network has the weights that are scored."""
        if not self.average:
            yield
            return
        trained = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.tensors)
        try:
            yield
        finally:
            self.network.load_state_dict(trained)

    def see(self, score: float | None, state: State) -> bool:
        """Keep the present weights unless earlier ones were better; of equal scores the later one is kept.

        Args:
            score: main score on val; None or NaN keeps nothing.
            state: the training state; its best score, epoch and stale epochs are updated.
        """
        best = state.best_score
        if score is None or math.isnan(score):
            return False
        state.stale_epochs = 0 if best is None or score > best else state.stale_epochs + 1
        if best is not None and score < best:
            return False
        state.best_score, state.best_epoch = score, state.epoch
        self.best = {key: value.detach().clone() for key, value in self.present.items()}
        return True

    def final(self) -> Mapping[str, Tensor]:
        """The weights of the artefact: those of the best epoch, or the last ones."""
        return self.best if self.restores_best and self.best else self.present

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Parts of a checkpoint."""
        average = self.average.tensors if self.average else {}
        return {"network": self.network.state_dict(), "best": self.best, "average": average}

    def load(self, network: dict[str, Tensor], best: dict[str, Tensor], average: dict[str, Tensor]) -> None:
        """Restore the weights from `tensors`.

        Raises:
            RuntimeError, LookupError: they are those of another network.
        """
        present = self.network.state_dict()
        self.network.load_state_dict(_divided_as(present, network))
        self.best = _divided_as(present, best)
        if self.average:
            self.average.load(average)


def _divided_as(present: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, divided among processes as those of their names are."""
    return {key: divided_like(present.get(key, value), value) for key, value in tensors.items()}
