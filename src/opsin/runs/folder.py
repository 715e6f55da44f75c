"""Reading a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from opsin.config import RunConfig, from_stored
from opsin.errors import RunError, SealedSplitError
from opsin.runs.log import LOG, Log, read_log
from opsin.runs.names import RUNS_FOLDER, other_runs, run_path
from opsin.runs.reader import (
    CONFIG,
    DATA,
    ENVIRONMENT,
    PREDICTIONS,
    SCORES,
    SUMMARY,
    read_arrays,
    read_data,
    read_object,
    read_record,
    read_scores,
)
from opsin.runs.records import DataCard, Environment, Epoch, SplitScores, Summary
from opsin.types import Prediction, SplitName, TaskName

if TYPE_CHECKING:
    from torch import nn

    from opsin.batches.preprocess import Preprocess
    from opsin.io.in_memory import ImageInput
    from opsin.models.wrappers.views import ViewName


class Run:
    """One run folder, read lazily.

    Args:
        path: the folder.

    Raises:
        RunError: there is no run at `path`; or, from any property, a file of the run is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / CONFIG).is_file():
            do = other_runs(self.path)
            raise RunError("this folder is not a run", where=self.path, expected="a folder with config.json", do=do)

    @classmethod
    def open(cls, name: Path | str, *, out: Path | str = RUNS_FOLDER) -> Run:
        """The run at a path, or of that name in `out`."""
        return cls(run_path(name, out))

    @classmethod
    def at(cls, path: Path | str) -> Run:
        """The run at `path`, which is not looked at: it may lie on another machine."""
        run = cls.__new__(cls)
        run.path = Path(path)
        return run

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def config(self) -> RunConfig:
        """Every setting, resolved, under its present name."""
        return from_stored(read_object(self.path / CONFIG), where=str(self.path / CONFIG))

    @property
    def data(self) -> DataCard:
        """The data set: splits, class counts, fingerprint, findings."""
        return read_data(self.path / DATA)

    @property
    def task(self) -> TaskName:
        """The task the network was trained for.

        Raises:
            RunError: the run does not record it.
        """
        told = self.data.task or self.summary.task or self.config.task
        if told is None:
            raise RunError(
                "the run does not record its task",
                where=self.path / DATA,
                expected="the field `task`",
                do="train it again",
            )
        return told

    @property
    def environment(self) -> Environment:
        """Versions, processor, threads, precision chosen and the timings behind the choice."""
        return read_record(self.path / ENVIRONMENT, Environment)

    @property
    def summary(self) -> Summary:
        """The outcome in a few numbers. False until the run has finished or stopped."""
        return read_record(self.path / SUMMARY, Summary)

    @property
    def scores(self) -> Mapping[str, SplitScores]:
        """Scores with intervals, e.g. `run.scores["val"]["accuracy"]`. Empty until the run has finished.

        Raises:
            RunError: scores.json is damaged.
            SealedSplitError: from `run.scores["test"]`, while the test split is sealed.
        """
        return ScoresBySplit(read_scores(self.path / SCORES), run=self)

    @property
    def log(self) -> Log:
        """All events, epochs included, in order; `run.log.to_pandas()` is a table of the epochs.

        Raises:
            RunError: a line is not an event.
        """
        return read_log(self.path / LOG)

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """The epochs in the log, in order."""
        return self.log.epochs

    @property
    def model_folder(self) -> Path:
        """The folder of the artefact."""
        return self.path / "model"

    def predictions(self, split: SplitName) -> dict[str, np.ndarray]:
        """Per-sample outputs on `split`; empty when that split has not been scored."""
        prefix, arrays = f"{split}/", read_arrays(self.path / PREDICTIONS)
        return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}

    def network(self, *, device: str = "cpu") -> nn.Module:
        """The trained network, in evaluation mode, with its weights; checked with the golden images.

        Its input is what the preprocessing contract of the artefact gives, float32 [B, C, H, W]; its output is a
        mapping, e.g. {"logits": float32 [B, K]}. `predict` does preprocessing and decoding.

        Args:
            device: as in `pick_device`.

        Raises:
            ArtifactError: the run has no artefact yet, or it was altered.
        """
        from opsin.artifact import load_proved  # here, because reading a run need not import torch
        from opsin.devices import pick_device

        place = pick_device(device)
        return load_proved(self.model_folder, device=place).network.to(place).eval()

    def preprocess(self) -> Preprocess:
        """How pixels become what `network()` computes with: size, colour order, range, mean, standard deviation.

        Raises:
            ArtifactError: the run has no artefact yet, or it was altered.
        """
        from opsin.artifact import load  # here, because reading a run should not import torch

        return load(self.model_folder).preprocess

    @overload
    def predict(
        self,
        images: bytes | np.ndarray,
        /,
        *,
        views: Sequence[ViewName] = ...,
        device: str = ...,
        coverage: float | None = ...,
        abstain: float | None = ...,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        images: str | Path,
        /,
        *,
        views: Sequence[ViewName] = ...,
        device: str = ...,
        coverage: float | None = ...,
        abstain: float | None = ...,
    ) -> Prediction | Any: ...
    @overload
    def predict(
        self,
        *images: ImageInput | Iterable[ImageInput],
        views: Sequence[ViewName] = ...,
        device: str = ...,
        coverage: float | None = ...,
        abstain: float | None = ...,
    ) -> Any: ...

    def predict(
        self,
        *images: ImageInput | Iterable[ImageInput],
        views: Sequence[ViewName] = (),
        device: str = "auto",
        coverage: float | None = None,
        abstain: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Predictions of this run's network for one or several images.

        Args:
            images: one image: a path, the bytes of an image file, an array uint8 [H, W, 3] (RGB) or [H, W] (grey), or a
                Pillow image; for a network of 16 bits a channel, arrays uint16 too. Or several: more than one argument,
                lists of images, folders.
            views: as in `Predictor`.
            device: as in `pick_device`.
            coverage, abstain: as in `CautiousPredictor`, without views.

        Returns:
            One prediction for one image; a list, in order, for several, also for lists or folders with one image.

        Raises:
            ImageError: an image cannot be read.
            InputError: a file does not exist, or a folder contains no image.
            RefusedError, ConfigError: as `caution_of`.
            RunError: views with coverage or abstain.
        """
        from opsin.devices import pick_device
        from opsin.inference.predictor import predict_images  # here, because reading a run need not import torch

        if coverage is None and abstain is None:
            return predict_images(self.model_folder, images, views=views, device=pick_device(device))
        from opsin.inference.cautious import predict_images_cautiously

        if views:
            raise RunError("coverage and risk are known only for unmodified images", got=views, do="leave views out")
        place = pick_device(device)
        return predict_images_cautiously(self.model_folder, images, coverage=coverage, abstain=abstain, device=place)

    def report(self) -> Path:
        """Write the report of the run again.

        Returns:
            Path of `report.html`, one self-contained page.
        """
        from opsin.report import write_report  # the one import upwards, with that of the notebook card

        return write_report(self)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from opsin.report.notebook import run_html

        return run_html(self)


class ScoresBySplit(dict[str, SplitScores]):
    """Scores by split; a split without scores raises a `KeyError` that says how to get them."""

    def __init__(self, scores: Mapping[str, SplitScores], *, run: Run) -> None:
        super().__init__(scores)
        self._run = run

    def __missing__(self, split: str) -> SplitScores:
        raise _no_scores(self._run, split, self)


def _no_scores(run: Run, split: str, known: Iterable[str]) -> SealedSplitError:
    """Why there are no scores of a split, and what to do about it."""
    known = list(known)
    evaluation = f"`opsin evaluate {run.path} --split {split}`, or opsin.evaluate(run, split={split!r})"
    expected = ", ".join(known) or "scores, which a finished run has"
    if split == "test" and "test" in run.data.splits and known:
        do = f"{evaluation} opens it, once; the run stores the scores and the number of openings"
        return SealedSplitError("the test split is sealed: it has not been scored", where=run.path, do=do)
    scorable = evaluation if split == "train" and known else None
    return SealedSplitError("no scores of this split", where=run.path, got=split, expected=expected, do=scorable)
