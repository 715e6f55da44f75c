"""The run folder: the interface through which training, evaluation, reports and prediction meet.

A run folder is valid or absent: it is made under a temporary name with its config inside, then renamed. Every file in
it is written under a temporary name, synced, and renamed. The log is appended to; a last line that was cut off by a
crash is not part of it. One process at a time trains a run: it holds a lock of the operating system on the folder,
which ends with the process however it dies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsin.config import RunConfig, from_stored, to_dict
from opsin.errors import DataError, NameTakenError, OpsinError, RunError, SealedSplitError, nearest
from opsin.io.arrays import read_npz, write_npz
from opsin.io.files import as_json, atomic_folder, read_json, write_atomically, write_json, writing
from opsin.io.temporary import is_temporary, owner_lives, remove_abandoned
from opsin.ledger import Looks, looks_of_event, record_look
from opsin.types import Prediction, Score, SplitName, scores_from_json

if TYPE_CHECKING:
    from opsin.data.samples import Dataset
    from opsin.models.wrappers.views import ViewName

if sys.platform != "win32":
    import fcntl

RUNS_FOLDER = Path("runs")
LONGEST_STEM = 90
"""Characters of a stem, so that its number fits into the 100 of a name."""
REMADE = ("scores.json", "summary.json", "predictions.npz")
"""Files that the end of a training writes anew, and reads before that."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class Run:
    """One run folder, read lazily: what is in the files is the truth.

    Args:
        path: the folder.

    Raises:
        RunError: there is no run at `path`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise RunError(
                "no run here", where=self.path, expected="a folder with config.json", do=_other_runs(self.path)
            )

    @classmethod
    def open(cls, name: Path | str, *, out: Path | str = RUNS_FOLDER) -> Run:
        """The run at a path, or of that name in `out`."""
        path, inside = Path(name), Path(out) / name
        if (path / "config.json").is_file():
            return cls(path)
        # a bare name that is not there is looked for among the runs; a path is named as it was typed
        typed = path.exists() or (path.parent.name != "" and path.parent.is_dir())
        return cls(path if typed and not inside.exists() else inside)

    @classmethod
    def create(cls, config: RunConfig, *, name: str, out: Path | str = RUNS_FOLDER) -> Run:
        """Make the folder of a new run.

        Raises:
            RunError: the name is taken, or is no plain file name.
        """
        path = free_path(name, out)
        remove_abandoned(Path(out))
        try:
            with atomic_folder(path) as folder:
                write_json(folder / "config.json", to_dict(config))
        except NameTakenError:  # by another process, since it was looked
            free_path(name, out)
            raise
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> RunConfig:
        """Every setting, resolved, under its present name."""
        return from_stored(self._json("config.json"), where=str(self.path / "config.json"))

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, processor, threads, precision chosen and the timings behind the choice."""
        return self._json("environment.json")

    @property
    def data(self) -> dict[str, Any]:
        """Data set, split sizes, class counts, fingerprint, audit findings."""
        return self._json("data.json")

    @property
    def summary(self) -> dict[str, Any]:
        """What came out, in a few numbers. Empty until the run has finished or stopped."""
        return self._json("summary.json")

    @property
    def scores(self) -> dict[str, dict[str, Score]]:
        """Scores with intervals, e.g. `run.scores["val"]["accuracy"]`. Empty until the run has finished.

        Raises:
            RunError: scores.json is damaged.
            SealedSplitError: from `run.scores["test"]`, while the test split is sealed.
        """
        return SplitScoresByName(self._scores(self.results), run=self)

    @property
    def without_copies(self) -> dict[str, dict[str, Score]]:
        """The same without samples that have a copy in train, for splits where copies were looked for.

        `opsin evaluate RUN --copies` looks for them; how many there are is in `results`.

        Raises:
            RunError: scores.json is damaged.
        """
        return self._scores(self._parts("without_copies"))

    @property
    def tta(self) -> dict[str, dict[str, Score]]:
        """The same over several views of each image, for splits that were scored so.

        `opsin evaluate RUN --tta flip` scores so; which views they were is in `results`.

        Raises:
            RunError: scores.json is damaged.
        """
        return self._scores(self._parts("tta"))

    @property
    def results(self) -> dict[str, Any]:
        """What scores.json holds for each split: n, scores, details, what was fitted. Empty until the run has finished.

        Raises:
            RunError: scores.json is damaged.
        """
        results = self._json("scores.json")
        for split, entry in results.items():
            if not isinstance(entry, dict):
                where = f"{self.path / 'scores.json'}: {split}"
                raise RunError("a file of the run is damaged", where=where, got=entry, expected="an object")
        return results

    @property
    def log(self) -> list[dict[str, Any]]:
        """One mapping per epoch and per event, in order.

        Raises:
            RunError: a line is no event.
        """
        path = self.path / "log.jsonl"
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")
        return [_event(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1) if line]

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The log's epochs alone."""
        return [event for event in self.log if event["event"] == "epoch"]

    @property
    def model_folder(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def contract(self) -> dict[str, Any]:
        """The preprocessing contract of the artefact: size, colour order, range, mean, std."""
        contract: dict[str, Any] = self._json("model/model.json").get("preprocess", {})
        return contract

    def predictions(self, split: SplitName) -> dict[str, np.ndarray]:
        """Per-sample outputs on `split`; empty when that split has not been scored."""
        prefix, arrays = f"{split}/", self._npz("predictions.npz")
        return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}

    def gallery(self) -> dict[str, np.ndarray]:
        """Thumbnails: samples, augmented samples, mistakes."""
        return self._npz("gallery.npz")

    def extra(self, file: str) -> dict[str, Any]:
        """A JSON file that another verb has left in the run; empty where it has not.

        Raises:
            RunError: it holds no object.
        """
        return self._json(file)

    def write(self, file: str, values: Mapping[str, Any]) -> None:
        """Replace one JSON file of the run, whole."""
        write_json(self.path / file, dict(values))

    def write_arrays(self, file: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace one .npz file of the run, whole.

        Raises:
            RunError: an array holds objects, which would be pickled.
        """
        if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
            raise RunError("an array of objects is not written", where=self.path / file, got=", ".join(objects))
        write_npz(self.path / file, arrays)

    def event(self, event: str, **values: Any) -> None:
        """Append one event to the log; NaN (undefined) becomes null."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps(as_json({"event": event, "time": stamp, **values})) + "\n"
        self._drop_torn_line()
        path = self.path / "log.jsonl"
        with writing(path), path.open("ab") as log:
            log.write(line.encode())
            log.flush()
            os.fsync(log.fileno())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training this run, and remove what a killed one left half written.

        Raises:
            RunError: another process trains it.
        """
        if sys.platform == "win32":  # cannot lock a folder: there a run is trained without a lock
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks; a lock that is taken is told apart below
                _lock(handle, self.path)
            for left in [path for path in self.path.rglob(".*.tmp") if is_temporary(path)]:
                if not owner_lives(left):  # an evaluation may write here meanwhile
                    _remove(left)
            yield
        finally:
            os.close(handle)

    def repair(self) -> list[str]:
        """Drop damaged lines of the log and damaged results, all of which a run that goes on makes anew.

        An opening of the test split that a damaged line tells of still counts.

        Returns:
            What was dropped, a sentence each.
        """
        said = self._repair_log()
        for file in REMADE:
            try:
                _check_readable(self, file)
            except OpsinError as error:
                _remove(self.path / file)
                said.append(f"{file} is damaged ({error.what}); it was removed, and is made anew")
        for message in said:
            self.event("repair", message=message)
        return said

    def _repair_log(self) -> list[str]:
        path = self.path / "log.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        damaged = [line for line in lines if line and not _is_event(line)]
        if not damaged:
            return []
        kept = [line for line in lines if line and _is_event(line)]
        write_atomically(path, b"".join(line + b"\n" for line in kept))
        openings = sum(b"test_opened" in line for line in damaged)
        if openings:
            message = "openings of the test split, told by damaged lines of the log"
            self.event("earlier_openings", test_openings=openings, message=message)
        plural = "s" if len(damaged) > 1 else ""
        return [
            f"{len(damaged)} damaged line{plural} of log.jsonl dropped: epochs or events that the log no longer tells"
        ]

    def rewind(self, epoch: int) -> None:
        """Drop what the log says of epochs after number `epoch`, because they are about to end again."""
        kept = [e for e in self.log if e["event"] != "epoch" or e["epoch"] <= epoch]
        write_atomically(self.path / "log.jsonl", "".join(json.dumps(e) + "\n" for e in kept).encode())

    def record_test_opening(self, command: str, *, content: str | None = None, title: str = "opened") -> int:
        """Write down that somebody looked at the test split; returns how often that has happened by now.

        Args:
            command: what the user typed.
            content: SHA-256 over the images of the split, by which looks are counted over all runs (`ledger.py`).
            title: what was done to the split.
        """
        looks = None if content is None else record_look(content, run=self.path, command=command)
        counted = {} if looks is None else {"looks": looks.looks, "looking_runs": looks.runs}
        words = "" if looks is None else f": {looks.words()}"
        self.event("test_opened", command=command, **counted, message=f"the test split was {title}{words}")
        return self.test_openings

    @property
    def looks(self) -> Looks | None:
        """Looks at the test split over all runs, as they were counted when this run last looked; None if it has not."""
        opened = [event for event in self.log if event["event"] == "test_opened"]
        return looks_of_event(opened[-1]) if opened else None

    @property
    def test_openings(self) -> int:
        """How often anybody has looked at the test split, in this run or in the one that it was made from."""
        return sum(int(e["event"] == "test_opened") + _count(e.get("test_openings")) for e in self.log)

    def dataset(self, root: Path | str | None = None) -> Dataset:
        """The data set that the run was trained on, unchanged.

        Args:
            root: where catalogue sets lie; None takes the run's.

        Raises:
            DataError: it is not there, or it has changed: its splits may hold other samples now.
        """
        from opsin.data.load import load

        config, expected = self.config, self.data.get("fingerprint")
        found = load(config.source, root=root or config.root, config=config.data, task=self.data["task"])
        if (got := found.fingerprint()) != expected:
            what = "the data set has changed since the run was trained on it; its val may hold what was train then"
            do = "put the data back as it was; `--data` scores a copy as another data set"
            raise DataError(what, where=found.root or config.source, got=got, expected=expected, do=do)
        return found

    def predict(
        self,
        *files: Path | str | Iterable[Path | str],
        views: Sequence[ViewName] = (),
        device: str = "auto",
        coverage: float | None = None,
        abstain: float | None = None,
    ) -> list[Prediction]:
        """Predictions of this run's network for image files, folders of them, and lists of both, in order.

        `views` as in `Predictor`; `device` as in `pick_device`. `coverage` and `abstain` as in `CautiousPredictor`,
        for images as they are, without views.
        """
        from opsin.devices import pick_device
        from opsin.inference.predictor import predict_files  # here, because reading a run should not import torch

        each = [[file] if isinstance(file, str | Path) else file for file in files]
        photos = [Path(file) for part in each for file in part]
        if coverage is not None or abstain is not None:
            from opsin.inference.cautious import predict_cautiously

            if views:
                raise RunError("coverage and risk are known for images as they are", got=views, do="leave views out")
            place = pick_device(device)
            return predict_cautiously(self.model_folder, photos, coverage=coverage, abstain=abstain, device=place)[0]
        return predict_files(self.model_folder, photos, views=views, device=pick_device(device))

    def _drop_torn_line(self) -> None:
        """Remove a last line that a crash cut off, before another is put behind it."""
        path = self.path / "log.jsonl"
        if path.is_file() and not (content := path.read_bytes()).endswith(b"\n"):
            write_atomically(path, content[: content.rfind(b"\n") + 1])

    def _parts(self, key: str) -> dict[str, Any]:
        """What scores.json holds under `key` of each split, where it holds it."""
        parts = {split: entry.get(key) for split, entry in self.results.items()}
        return {split: part for split, part in parts.items() if part is not None}

    def _scores(self, entries: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
        """The scores in each of `entries` of scores.json."""
        try:
            return {split: scores_from_json(entry["scores"]) for split, entry in entries.items()}
        except (KeyError, TypeError, AttributeError) as error:
            what, where = "a file of the run is damaged", self.path / "scores.json"
            raise RunError(what, where=where, got=repr(error), expected="scores with value, low and high") from error

    def _json(self, file: str) -> dict[str, Any]:
        path = self.path / file
        values = read_json(path) if path.is_file() else {}
        if not isinstance(values, dict):
            raise RunError("a file of the run is damaged", where=path, got=type(values).__name__, expected="an object")
        return values

    def _npz(self, file: str) -> dict[str, np.ndarray]:
        path = self.path / file
        return read_npz(path) if path.is_file() else {}

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from opsin.report.notebook import run_html

        return run_html(self)


class SplitScoresByName(dict[str, dict[str, Score]]):
    """Scores by split; a split without scores is refused with the way to get them, as a `KeyError` too."""

    def __init__(self, scores: Mapping[str, dict[str, Score]], *, run: Run) -> None:
        super().__init__(scores)
        self._run = run

    def __missing__(self, split: str) -> dict[str, Score]:
        raise _no_scores(self._run, split, self)


def _no_scores(run: Run, split: str, known: Iterable[str]) -> SealedSplitError:
    """Why there are no scores of a split, and what to do about it."""
    known = list(known)
    has_test = "test" in run.data.get("splits", {})
    evaluation = f"`opsin evaluate {run.path} --split {split}`, or opsin.evaluate(run, split={split!r})"
    expected = ", ".join(known) or "scores, which a finished run has"
    if split == "test" and has_test and known:
        do = f"{evaluation} opens it, once, and the run keeps the scores and the count of openings"
        return SealedSplitError("the test split is sealed: it has not been scored", where=run.path, do=do)
    scorable = evaluation if split == "train" and known else None
    return SealedSplitError("no scores of this split", where=run.path, got=split, expected=expected, do=scorable)


def free_path(name: str, out: Path | str = RUNS_FOLDER) -> Path:
    """Where a new run of that name will lie.

    Raises:
        RunError: the name is taken, or is no plain file name.
    """
    if not _NAME.fullmatch(name):
        raise RunError("not a name for a run", got=name, expected="letters, digits and . _ + - (at most 100)")
    path = Path(out) / name
    if path.exists():
        do = "`--resume` goes on with it; another `--name` starts a new one"
        raise RunError("a run of this name exists; nothing was overwritten", where=path, do=do)
    return path


def next_name(stem: str, out: Path | str = RUNS_FOLDER) -> str:
    """`stem-1`, or the first number that is free in `out`; the stem is made into what a run may be called."""
    clean = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")[:LONGEST_STEM] or "run"
    number = 1
    while (Path(out) / f"{clean}-{number}").exists():
        number += 1
    return f"{clean}-{number}"


def list_runs(out: Path | str = RUNS_FOLDER) -> list[str]:
    """Names of the runs in `out`, oldest first; one whose making was interrupted is none."""
    folders = [p.parent for p in Path(out).glob("*/config.json") if not is_temporary(p.parent)]
    return [p.name for p in sorted(folders, key=lambda p: (p / "config.json").stat().st_mtime)]


def _check_readable(run: Run, file: str) -> None:
    """Read a file of results.

    Raises:
        OpsinError: it is damaged.
    """
    if file == "scores.json":
        _ = run.scores, run.without_copies, run.tta
    elif file.endswith(".npz"):
        run._npz(file)
    else:
        run._json(file)


def _is_event(line: bytes) -> bool:
    try:
        _event(line, "")
    except RunError:
        return False
    return True


def _count(value: Any) -> int:
    """A number of openings, as an event of a log tells it."""
    return value if isinstance(value, int) and value > 0 else 0


def _event(line: bytes, where: str) -> dict[str, Any]:
    """One line of a log."""
    try:
        event = json.loads(line)
        if not isinstance(event["event"], str) or (event["event"] == "epoch" and not isinstance(event["epoch"], int)):
            raise TypeError
    except (ValueError, TypeError, KeyError) as error:
        got, expected = line[:80].decode(errors="replace"), 'an event, {"event": …}'
        do = "remove the line: the run can do without it"
        raise RunError("the log of the run is damaged", where=where, got=repr(got), expected=expected, do=do) from error
    return dict(event)


def _lock(handle: int, path: Path) -> None:
    """Take the lock on an open folder; it ends when the folder is closed, so also when the process is killed."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        do = "wait for it, or stop it; a copy of the folder under another name can be trained at the same time"
        raise RunError("another process is training this run", where=path, do=do) from error


def _remove(path: Path) -> None:
    """Remove a file or folder that an interrupted write has left."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _other_runs(path: Path) -> str:
    if inside := list_runs(path):
        return f"this folder holds runs: take one of them, e.g. {path / inside[-1]}"
    names = list_runs(path.parent)
    if not names:
        return "`opsin train DATA` makes one"
    close = nearest(path.name, names)
    return f"did you mean `{close}`?" if close else f"runs there: {', '.join(names[-5:])}"
