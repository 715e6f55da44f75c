"""Parts of a training that users write in Python: network, loss, augmentation, optimizer.

They are used as they are and named in the run, with the guarantees that such a run loses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from opsin.batches.batch import Batch
from opsin.errors import ConfigError, RunError
from opsin.models.own import register_module
from opsin.tasks.base import Task

LossFunction = Callable[[Mapping[str, Tensor], Batch], Tensor | Mapping[str, Tensor]]
AugmentFunction = Callable[[Tensor, torch.Generator], Tensor]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SEED_STRIDE = 1_000_003


@dataclass(frozen=True, kw_only=True)
class OwnParts:
    """User-defined parts; None is Opsin's own part.

    Attributes:
        network: name under which a network from outside is registered.
        loss: called with the outputs by name, each float32 [B, ...], and the batch (its `labels`, `boxes`, `masks`);
            gives a scalar, or scalars by name with "loss" among them. A module of `torch.nn` such as
            `nn.CrossEntropyLoss()` is called with the task's main output and its target (labels, masks, …).
        augment: called with images float32 [B, C, H, W] in the range 0 to 255 and a generator; gives images of that
            shape. It comes after Opsin's own augmentation, which can be turned off, and must not move
            objects: boxes and masks do not follow it.
        optimizer: called with the trainable parameters; its learning rates are the peak of the schedule.
    """

    network: str | None = None
    loss: LossFunction | nn.Module | None = None
    augment: AugmentFunction | None = None
    optimizer: OptimizerFactory | None = None

    def __bool__(self) -> bool:
        return any((self.network, self.loss, self.augment, self.optimizer))

    def names(self) -> dict[str, str]:
        """Import path of each part that is given, as a record; nothing imports it."""
        parts = {"loss": self.loss, "augment": self.augment, "optimizer": self.optimizer}
        named = {key: import_path(part) for key, part in parts.items() if part is not None}
        return ({"network": self.network.removeprefix("own:")} if self.network else {}) | named

    def withdrawn(self) -> list[str]:
        """The guarantees that a run with these parts loses, one sentence each."""
        said = ["config.json alone does not reproduce the run: the same parts must be given again"]
        if self.network:
            said.append("the artefact opens only where its network is registered")
            said.append("no fine-tuning by sections and no conversion to any image size: the sections are unknown")
        if self.loss or self.augment or self.optimizer:
            said.append("a resumed run equals an unbroken one bit for bit only if the parts keep no state")
        return said

    def message(self) -> str:
        """The parts and the lost guarantees, for the log, the terminal and the report."""
        named = ", ".join(f"{part} {name}" for part, name in self.names().items())
        return f"user-defined: {named}. No longer guaranteed: {'; '.join(self.withdrawn())}"

    def check_resumed(self, recorded: Mapping[str, str], *, where: str) -> None:
        """Refuse to go on with another loss, augmentation or optimizer; the network's name is a setting.

        Args:
            recorded: `names` when the run began.
            where: folder of the run.

        Raises:
            RunError: a part is missing, was added or has another import path.
        """
        got, expected = (
            {part: name for part, name in parts.items() if part != "network"} for parts in (self.names(), recorded)
        )
        if got != expected:
            do = "give the same `loss`, `augment` and `optimizer` to `opsin.train`, or start a new run"
            what = "a resumed run keeps its user-defined parts"
            raise RunError(what, where=where, got=got or "none", expected=expected or "none", do=do)

    def augmented(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        """The batch as the user's augmentation leaves it; what it draws follows from (seed, epoch, samples) alone.

        Raises:
            ConfigError: the returned images have another shape.
        """
        if self.augment is None:
            return batch
        drawn = ((seed * SEED_STRIDE + epoch) * SEED_STRIDE + int(batch.index[0])) % (1 << 63)
        generator = torch.Generator(device=batch.images.device).manual_seed(drawn)
        images: Any = self.augment(batch.images.float(), generator)
        if not isinstance(images, Tensor) or images.shape != batch.images.shape:
            got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            what = "an augmentation changed the shape or type of its images"
            raise ConfigError(what, where=import_path(self.augment), got=got, expected=list(batch.images.shape))
        return replace(batch, images=images)

    def built_optimizer(self, network: nn.Module) -> torch.optim.Optimizer | None:
        """The user's optimizer for the trainable parameters of `network`, or None.

        Raises:
            ConfigError: the call returned no optimizer.
        """
        if self.optimizer is None:
            return None
        made: Any = self.optimizer([p for p in network.parameters() if p.requires_grad])
        if not isinstance(made, torch.optim.Optimizer):
            what, expected = "`optimizer` did not return an optimizer", "a torch.optim.Optimizer"
            do = "give a function of the parameters, e.g. lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
            raise ConfigError(what, where="optimizer", got=type(made).__name__, expected=expected, do=do)
        return made

    def with_loss(self, task: Task) -> Task:
        """The task with the user's loss, where there is one."""
        return task if self.loss is None else cast("Task", TaskWithLoss(task, self.loss))


NO_OWN_PARTS = OwnParts()


class TaskWithLoss:
    """A task with a user-defined training loss."""

    def __init__(self, task: Task, loss: LossFunction | nn.Module) -> None:
        self._task, self._loss = task, loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def guessing_loss(self, num_outputs: int) -> None:
        """Unknown: the scale of a user's loss is arbitrary."""

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Parts of the user's loss; "loss" is what gradients are taken of.

        Raises:
            ConfigError: it is no scalar, or parts without "loss".
        """
        if isinstance(self._loss, nn.Module):
            output, target = outputs[self._task.main_output], batch.targets[self._task.targets[0]]
            # one number for each output, or the index of a class
            found: Any = self._loss(output, target.float() if target.shape == output.shape else target.long())
        else:
            found = self._loss(outputs, batch)
        parts = dict(found) if isinstance(found, Mapping) else {"loss": found}
        wrong = [key for key, value in parts.items() if not isinstance(value, Tensor) or value.ndim]
        if "loss" not in parts or wrong:
            got = {key: list(value.shape) if isinstance(value, Tensor) else value for key, value in parts.items()}
            what, expected = "a loss returned no scalar", 'a scalar tensor, or scalars by name with "loss" among them'
            raise ConfigError(what, where=import_path(self._loss), got=got, expected=expected, do="take the mean")
        return parts


def split_parts(settings: Mapping[str, Any]) -> tuple[dict[str, Any], OwnParts]:
    """Settings of a run without the user's own parts among them, and those parts.

    `model` may be a module and `optimizer` a function; `loss` and `augment` are functions.

    Raises:
        ConfigError: a part cannot be called.
    """
    plain = {key: value for key, value in settings.items() if key not in ("loss", "augment")}
    given: dict[str, Any] = {key: settings.get(key) for key in ("loss", "augment")}
    if isinstance(settings.get("model"), nn.Module):
        plain["model"] = given["network"] = register_module(settings["model"])
    if callable(settings.get("optimizer")):
        given["optimizer"] = plain.pop("optimizer")
    for name, part in given.items():
        if part is not None and name != "network" and not callable(part):
            raise ConfigError(f"`{name}` cannot be called", where=name, got=part, expected="a function")
    return plain, OwnParts(**given)


def import_path(part: object) -> str:
    """Where a function or an object's class is defined: `package.module:name`.

    >>> import_path(nn.CrossEntropyLoss())
    'torch.nn.modules.loss:CrossEntropyLoss'
    """
    kind = part if hasattr(part, "__qualname__") else type(part)
    return f"{getattr(kind, '__module__', '?')}:{getattr(kind, '__qualname__', '?')}"
