"""Which parameters are trained in which epoch, and at what rate: freezing, unfreezing, layer-wise rates.

    bottom                                                    top
    section 0 ── section 1 ── … ── section S-1 ── head (logits, decoder, boxes)
    rate  lr·b·d^(S-1)        …       lr·b          lr          b: backbone_lr, d: lr_decay

    all        every section                 staged     the head for some epochs, then everything at a lower rate
    top:N      the last N sections, head     gradual    the head for some epochs, then one section more at a time
    head       the head alone

What is trained is a function of the epoch only, so a resumed run trains the same as an uninterrupted one.

Source: gradual unfreezing and rates by layer: Howard and Ruder 2018, arXiv 1801.06146, sections 3.2 and 3.3.
"""

from __future__ import annotations

from torch import nn

from opsin.config import FinetuneConfig
from opsin.errors import ConfigError
from opsin.models.freezing import levels
from opsin.models.parts.backbone import Backbone


class Stages:
    """The parameters of a network by section, frozen and unfrozen from epoch to epoch.

    Args:
        network: parameters that are frozen at construction belong to no section and stay frozen.
        config: the schedule of fine-tuning.
        epochs: of the whole run.

    Raises:
        ConfigError: `top:N` has more sections than the network; the network has no backbone to freeze.
    """

    def __init__(self, network: nn.Module, config: FinetuneConfig, *, epochs: int) -> None:
        self.config, self.epochs = config, epochs
        self.levels = levels(network)
        self.num_sections = max(self.levels.values(), default=0)
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._open: int | None = None
        check_stages(network, config, epochs=epochs)
        self.enter(epochs - 1)  # everything ever trained: the optimizer is built for it

    def open_sections(self, epoch: int) -> int:
        """Number of upper sections trained in `epoch`, in addition to the head."""
        config, after = self.config, epoch - self.config.head_epochs
        if config.finetune == "all":
            return self.num_sections
        if config.finetune == "head" or (config.top is None and after < 0):
            return 0
        if config.top is not None:
            return config.top
        if config.finetune == "staged":
            return self.num_sections
        return min(self.num_sections, 1 + after // config.unfreeze_every)

    def enter(self, epoch: int) -> None:
        """Enable gradients for exactly the parameters trained in `epoch`."""
        sections = self.open_sections(epoch)
        if sections == self._open:
            return
        self._open = sections
        lowest = self.num_sections - sections
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(self.levels[name] >= lowest)

    def rate(self, epoch: int) -> float:
        """Factor of all learning rates in `epoch`."""
        return self.config.later_lr if self._in_later_stage(epoch) else 1.0

    def progress(self, progress: float, epoch: int) -> float:
        """Progress within the stage of `epoch`, from the progress of the run: each stage has a full schedule."""
        if self.config.finetune not in ("staged", "gradual"):
            return progress
        border = self.config.head_epochs / self.epochs
        within = (progress - border) / (1 - border) if self._in_later_stage(epoch) else progress / border
        return min(max(within, 0.0), 1.0)

    def rates(self) -> dict[str, float]:
        """Factor of the learning rate of each parameter, by its name."""
        config = self.config
        return {
            name: 1.0
            if self.levels[name] == self.num_sections
            else config.backbone_lr * config.lr_decay ** (self.num_sections - 1 - self.levels[name])
            for name in self.parameters
        }

    def _in_later_stage(self, epoch: int) -> bool:
        return self.config.finetune in ("staged", "gradual") and epoch >= self.config.head_epochs


def check_stages(network: nn.Module, config: FinetuneConfig, *, epochs: int) -> None:
    """Refuse a way of fine-tuning that the network or the number of epochs does not permit.

    Raises:
        ConfigError: `top:N` asks for more sections than there are, the head alone would be trained to the end, or the
            network has no backbone to be frozen.
    """
    if config.finetune == "all":
        return
    if not isinstance(getattr(network, "backbone", None), Backbone):
        raise ConfigError(
            "this network has no backbone to freeze",
            got=config.finetune,
            expected="--finetune all",
            do="leave --finetune out",
        )
    num_sections = max(levels(network).values(), default=0)
    if (config.top or 0) > num_sections:
        got, expected = config.finetune, f"at most top:{num_sections}"
        raise ConfigError("the network has fewer sections than `--finetune` names", got=got, expected=expected)
    if config.finetune in ("staged", "gradual") and config.head_epochs >= epochs:
        raise ConfigError(
            f"`--finetune {config.finetune}` would train the head alone to the end",
            got=f"head_epochs {config.head_epochs}, epochs {epochs}",
            expected="more epochs than head_epochs",
        )
