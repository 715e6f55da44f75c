"""Writing and reading everything that the next step depends on, as a checkpoint."""

from __future__ import annotations

import time

import torch
from torch.optim import Optimizer

from opsin.group import ALONE, Group
from opsin.runs import RunWriter
from opsin.training.engine import checkpoints, guards
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.clock import Clock
from opsin.training.engine.decisions import Decisions
from opsin.training.engine.kept import KeptWeights
from opsin.training.engine.schedules import Plateau
from opsin.training.engine.shards import gathered
from opsin.training.engine.state import State, state_of


class Saver:
    """Writes and reads the checkpoints of one run."""

    def __init__(
        self,
        run: RunWriter,
        state: State,
        clock: Clock,
        kept: KeptWeights,
        optimizer: Optimizer,
        decisions: Decisions,
        group: Group = ALONE,
    ) -> None:
        self.group = group
        self.run, self.state, self.clock = run, state, clock
        self.kept, self.optimizer, self.decisions = kept, optimizer, decisions

    def save(self) -> None:
        """Write a checkpoint, where this process leads; all losses must have been read. Every process calls it.

        Raises:
            DivergedError: a weight is not finite; the checkpoint before stays the newest.
        """
        guards.check_weights(self.kept.network, step=self.state.step, group=self.group)
        tensors, self.state.optimizer = checkpoints.optimizer_tensors(self.optimizer)
        parts = {**self.kept.tensors(), "optimizer": tensors}
        parts = {name: gathered(part, self.group) for name, part in parts.items()}
        if not self.group.leads:
            return
        self.state.plateau = vars(self.decisions.plateau)
        self.state.threads = torch.get_num_threads()
        times = {"seconds": self.clock.seconds(), "cpu_seconds": self.clock.cpu_seconds()}
        checkpoint = checkpoints.joined(parts, vars(self.state) | times)
        checkpoints.save(self.run.checkpoints_folder, checkpoint)
        self.clock.checkpointed_at = time.monotonic()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            RunError: its tensors are those of another network or optimizer.
        """
        with checkpoints.fitting(self.run.checkpoints_folder):
            self.kept.load(*(checkpoint.part(name) for name in ("network", "best", "average")))
            self.state.take(state_of(checkpoint.state, where="state.json"))
            checkpoints.load_optimizer(self.optimizer, checkpoint.part("optimizer"), self.state.optimizer)
            self.decisions.plateau = Plateau(**self.state.plateau)
        self.run.rewind(self.state.epoch)
