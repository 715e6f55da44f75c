"""Writing a run folder: the only way, for training, ensembles, conversions, evaluations and tests.

Every file is written under a temporary name, synced, and renamed. The log is appended to; a last line that was cut off
by a crash is not part of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from opsin.config import RunConfig, to_dict
from opsin.errors import NameTakenError, RunError
from opsin.io.arrays import write_npz
from opsin.io.files import as_json, atomic_folder, write_atomically, write_json, writing
from opsin.io.temporary import remove_abandoned
from opsin.ledger import record_look
from opsin.runs.codec import to_json
from opsin.runs.folder import Run
from opsin.runs.lock import locked
from opsin.runs.log import LOG, read_event
from opsin.runs.names import RUNS_FOLDER, free_path
from opsin.runs.reader import CONFIG, DATA, ENVIRONMENT, GALLERY, PREDICTIONS, SCORES, SUMMARY, WEIGHTS, Arrays
from opsin.runs.records import DataCard, Environment, SplitScores, Summary
from opsin.runs.repair import drop_damaged_lines, drop_damaged_results


class RunWriter:
    """Writes the files of `run`, each atomically."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @classmethod
    def create(cls, config: RunConfig, *, name: str, out: Path | str = RUNS_FOLDER) -> RunWriter:
        """Create the folder of a new run with its config, atomically.

        Raises:
            RunError: the name is taken, or is not a plain file name.
        """
        path = free_path(name, out)
        remove_abandoned(Path(out))
        try:
            with atomic_folder(path) as folder:
                write_json(folder / CONFIG, to_dict(config))
        except NameTakenError:  # by another process, after the check
            free_path(name, out)
            raise
        return cls(Run(path))

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def model_folder(self) -> Path:
        return self.run.model_folder

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    def config(self, config: RunConfig) -> None:
        """Replace config.json."""
        write_json(self.path / CONFIG, to_dict(config))

    def data(self, card: DataCard) -> None:
        """Replace data.json."""
        write_json(self.path / DATA, to_json(card))

    def environment(self, environment: Environment) -> None:
        """Replace environment.json."""
        write_json(self.path / ENVIRONMENT, to_json(environment))

    def weights(self, record: Mapping[str, object]) -> None:
        """Replace weights.json: the pretrained weights the run starts from."""
        write_json(self.path / WEIGHTS, dict(record))

    def summary(self, summary: Summary) -> None:
        """Replace summary.json."""
        write_json(self.path / SUMMARY, to_json(summary))

    def scores(self, scores: Mapping[str, SplitScores]) -> None:
        """Replace scores.json. It is written last: a run with scores of a split has its predictions too."""
        write_json(self.path / SCORES, {split: to_json(found) for split, found in scores.items()})

    def predictions(self, arrays: Arrays) -> None:
        """Replace predictions.npz; the names of its arrays are `SPLIT/NAME`.

        Raises:
            RunError: an array contains objects.
        """
        write_arrays(self.path / PREDICTIONS, arrays)

    def gallery(self, arrays: Arrays) -> None:
        """Replace gallery.npz.

        Raises:
            RunError: an array contains objects.
        """
        write_arrays(self.path / GALLERY, arrays)

    def event(self, event: str, **values: object) -> None:
        """Append one event to the log; NaN (undefined) becomes null."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps(as_json({"event": event, "time": stamp, **values})) + "\n"
        self._drop_torn_line()
        path = self.path / LOG
        with writing(path), path.open("ab") as log:
            log.write(line.encode())
            log.flush()
            os.fsync(log.fileno())

    def extra(self, file: str, values: Mapping[str, object]) -> None:
        """Replace a JSON file that another verb writes into the run, e.g. "doctor.json"."""
        write_json(self.path / file, dict(values))

    def record_test_opening(self, command: str, *, content: str | None = None, title: str = "opened") -> int:
        """Record an opening of the test split; returns the number of openings so far.

        Args:
            command: the command line as typed.
            content: SHA-256 over the images of the split, by which openings are counted over all runs (`ledger.py`).
            title: what happened to the split.
        """
        looks = None if content is None else record_look(content, run=self.path, command=command)
        counted = {} if looks is None else {"looks": looks.looks, "looking_runs": looks.runs}
        words = "" if looks is None else f": {looks.words()}"
        self.event("test_opened", command=command, **counted, message=f"the test split was {title}{words}")
        return self.run.log.test_openings

    def rewind(self, epoch: int) -> None:
        """Drop the log records of epochs after number `epoch`, because these will be repeated."""
        path = self.path / LOG
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        told = [(line, read_event(line, f"{path}, line {number}")) for number, line in enumerate(lines, 1) if line]
        kept = [line for line, event in told if event.event != "epoch" or _number(event["epoch"]) <= epoch]
        write_atomically(path, b"".join(line + b"\n" for line in kept))

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from training this run, and remove incomplete files of killed ones.

        Raises:
            RunError: another process trains it.
        """
        return locked(self.path)

    def repair(self) -> list[str]:
        """Drop damaged lines of the log and damaged results, which a resumed run rebuilds.

        Openings of the test split in damaged lines still count.

        Returns:
            One sentence for each removal.
        """
        damaged, openings = drop_damaged_lines(self.path)
        if openings:
            message = "openings of the test split recorded in damaged lines of the log"
            self.event("earlier_openings", test_openings=openings, message=message)
        plural = "s" if damaged > 1 else ""
        told = f"{damaged} damaged line{plural} of log.jsonl dropped: the log lacks these epochs or events"
        said = [*([told] if damaged else []), *drop_damaged_results(self.path)]
        for message in said:
            self.event("repair", message=message)
        return said

    def _drop_torn_line(self) -> None:
        """Remove a last line that a crash cut off, before another is appended."""
        path = self.path / LOG
        if path.is_file() and not (content := path.read_bytes()).endswith(b"\n"):
            write_atomically(path, content[: content.rfind(b"\n") + 1])


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Replace an .npz file, whole.

    Raises:
        RunError: an array contains objects, which would be pickled.
    """
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise RunError(
            "arrays of objects cannot be written",
            where=path,
            got=", ".join(objects),
            do="convert them to numbers or strings",
        )
    write_npz(path, arrays)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
