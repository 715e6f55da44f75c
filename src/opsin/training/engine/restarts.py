"""What a group of processes keeps for when its launcher starts it again: a small file, gone when the run has ended.

A launcher starts all processes again with the same command line when one has died. The store that they talk through is
new then, so that the name of the run, the beginning of its budget, and the parts that its batches had to be cut into
are kept in a file: the launcher's own, where it names one, else beside the runs.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from opsin.errors import InputError
from opsin.io.files import read_json, write_json
from opsin.processes import NOTES_VARIABLE, launched
from opsin.types import JsonDict, JsonMapping

UNNAMED = ("", "none")
"""Names of launches that torchrun gives where the user names none: they do not tell one launch from another."""


class RestartNotes:
    """The file of one launch.

    Args:
        folder: of the runs.
    """

    def __init__(self, folder: Path | str) -> None:
        given = os.environ.get(NOTES_VARIABLE)
        beside = Path(folder) / f".{_launch()}.group.json"
        self.path = None if not launched() else Path(given) if given else beside
        self.by_launcher = bool(given)

    def read(self) -> JsonDict:
        """What was kept; empty where nothing was, or what was cannot be read."""
        if self.path is None or not self.path.is_file():
            return {}
        try:
            values = read_json(self.path)
        except InputError:
            return {}
        return values if isinstance(values, dict) else {}

    def keep(self, values: JsonMapping) -> None:
        """Keep more values."""
        if self.path is not None and self.path.parent.is_dir():
            write_json(self.path, self.read() | dict(values))

    def forget(self) -> None:
        """The run has ended: the next launch is another. A launcher's own file goes with its launcher.

        Were it gone before, a process killed as the group ends would be started again without the name of its run.
        """
        if self.path is not None and not self.by_launcher:
            self.path.unlink(missing_ok=True)

    def began(self, began: float) -> float:
        """The reading of `time.monotonic` from which minutes count: the launcher's, or that of the first start."""
        now = time.time() - time.monotonic()
        first = self.read().get("began")
        return began if first is None else float(first) - now


def _launch() -> str:
    """What tells this launch from others, and stays when the group is started again."""
    named = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if named not in UNNAMED:
        return "".join(letter if letter.isalnum() else "-" for letter in named)
    return f"{socket.gethostname()}-{os.getppid()}"
