"""An optional TensorBoard log, in addition to the run's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opsin.errors import ConfigError
from opsin.training.engine.hooks import Callback, EpochContext


def require_tensorboard() -> None:
    """Refuse `tensorboard=True` before the run where the package is missing.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401
    except ModuleNotFoundError as error:
        do = "pip install 'opsin[tensorboard]', or leave --tensorboard out"
        raise ConfigError("TensorBoard is not installed", do=do) from error


class TensorBoardLog(Callback):
    """Writes the numbers of each epoch into event files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch(self, epoch: EpochContext) -> None:
        log_epoch(self.folder, epoch.record)


def log_epoch(folder: Path, epoch: Mapping[str, Any]) -> None:
    """Add the numbers of one epoch event to the event files in `folder`.

    Each epoch writes its own file, which TensorBoard joins: a crash leaves no open file.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), filename_suffix=f".{epoch['epoch']}") as writer:
        for split in ("train", "val"):
            for name, value in epoch[split].items():
                writer.add_scalar(f"{name}/{split}", value, epoch["epoch"])
        for name in ("lr", "images_per_second", "peak_memory_bytes"):
            writer.add_scalar(name, epoch[name], epoch["epoch"])
