"""Cautious predictions: sets of classes at a coverage, abstention at a risk, images unlike the training images.

All of it is based on the val statistics in the artefact (`answering.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from opsin.answering import (
    UNLIKE,
    Answering,
    bank_rows,
    watched_distances,
    watched_features,
    words_of_abstention,
    words_of_coverage,
)
from opsin.arrays import Array
from opsin.artifact import Artifact, opened
from opsin.data.samples import Samples
from opsin.errors import ConfigError, RefusedError
from opsin.inference.predictor import BATCH_SIZE, Fitted, Predictor, answers_of, image_files
from opsin.io.in_memory import ImageInput
from opsin.ops.conformal import prediction_sets
from opsin.ops.depth import as_batch
from opsin.ops.selective import Abstention
from opsin.progress import QUIET, Reporter
from opsin.tasks import card_of
from opsin.types import JsonDict, Prediction, Skipped


@dataclass(frozen=True, kw_only=True)
class Caution:
    """The requested coverage and risk, and their thresholds from val.

    `coverage`: of the prediction sets, or None; `set_threshold`: least probability of a class in them. `risk`: largest
    share of wrong answers, or None; `abstention`: the threshold for answering. `notes`: explanations.
    """

    coverage: float | None
    set_threshold: float | None
    risk: float | None
    abstention: Abstention | None
    notes: tuple[str, ...]

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        found = self.abstention
        abstain = None if found is None else {**vars(found), "risk": found.risk, "asked": self.risk}
        return {"coverage": self.coverage, "set_threshold": self.set_threshold, "abstain": abstain}


def caution_of(artifact: Artifact, *, coverage: float | None, abstain: float | None) -> Caution:
    """The thresholds of a network for a requested coverage and risk.

    Raises:
        RefusedError: the network does not predict one class per image, or has no val statistics; or no threshold
            guarantees the risk.
        ConfigError: a share out of range.
    """
    rules = rules_of(artifact)
    threshold = None if coverage is None else rules.set_threshold(coverage)
    found = None if abstain is None else rules.abstention(abstain)
    notes = [] if coverage is None else [words_of_coverage(rules, coverage)]
    if found is not None and abstain is not None:
        notes.append(words_of_abstention(rules, found, abstain))
    return Caution(coverage=coverage, set_threshold=threshold, risk=abstain, abstention=found, notes=tuple(notes))


def rules_of(artifact: Artifact) -> Answering:
    """The val statistics in a network's artefact.

    Raises:
        RefusedError: there are none.
    """
    if artifact.answering is not None:
        return artifact.answering
    if not card_of(artifact.task).decides_class:
        what, do = "coverage and risk need one class per image", "leave --coverage and --abstain out"
        raise ConfigError(what, got=card_of(artifact.task).words, expected="a network that predicts classes", do=do)
    raise RefusedError(
        "this network has no val statistics for coverage and risk",
        expected="an artefact with answering.safetensors, written by a training with a val split",
        do="train again; artefacts of older versions and published networks have none",
    )


class CautiousPredictor(Predictor):
    """A predictor with prediction sets and abstention.

    Args:
        artifact: the network, with its val statistics.
        coverage: of the prediction sets; None omits them.
        abstain: largest share of wrong answers among those given; None never abstains.
        device, batch_size: as in `Predictor`.

    Raises:
        RefusedError, ConfigError: as `caution_of`.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        coverage: float | None = None,
        abstain: float | None = None,
        device: torch.device | str = "cpu",
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.caution = caution_of(artifact, coverage=coverage, abstain=abstain)
        self.rules = rules_of(artifact)
        super().__init__(artifact, device=device, batch_size=batch_size)

    def _chunk(self, images: Sequence[Fitted], masks: Path | None) -> list[Prediction]:
        with watched_distances(self.network, torch.from_numpy(self.rules.bank)) as distances:
            found = super()._chunk(images, masks)
        known = len(self.rules.distance) > 0 and len(distances) > 0
        usual = self.rules.typicality(torch.cat(distances).numpy()) if known else np.full(len(found), np.nan)
        return [self._cautious(one, float(share)) for one, share in zip(found, usual, strict=True)]

    def _cautious(self, prediction: Prediction, typicality: float) -> Prediction:
        """A prediction with its set, its abstention, and the typicality of its image (NaN: unknown)."""
        known = typicality == typicality
        unlike = known and typicality <= UNLIKE
        possible = answered = None
        if self.caution.set_threshold is not None:
            possible = _labels(prediction, self.artifact.classes, self.caution.set_threshold)
        if self.caution.abstention is not None:
            answered = prediction.score > self.caution.abstention.threshold and not unlike
        words = f"unlike the training images: {typicality:.1%} of val images are as far from them"
        return replace(
            prediction,
            possible=possible,
            answered=answered,
            typicality=typicality if known else None,
            notes=(*prediction.notes, words) if unlike else prediction.notes,
        )


def _labels(prediction: Prediction, classes: Sequence[str], threshold: float) -> tuple[str, ...]:
    shares = np.asarray(prediction.shares)
    inside = prediction_sets(shares, threshold)
    order = np.argsort(-shares, kind="stable")
    return tuple(str(classes[k]) for k in order if inside[k])


def predict_cautiously(
    model: Path | Artifact,
    files: Sequence[Path],
    *,
    coverage: float | None = None,
    abstain: float | None = None,
    device: torch.device | str = "cpu",
    skipped: list[Skipped] | None = None,
    report: Reporter = QUIET,
) -> tuple[list[Prediction], Caution]:
    """Predictions with sets and abstention for image files and folders, and the thresholds used.

    `coverage` and `abstain` as in `CautiousPredictor`; the rest as in `predict_files`.

    Raises:
        RefusedError, ConfigError: as `caution_of`.
        ImageError: as `Predictor.files`.
    """
    predictor = CautiousPredictor(opened(model, device=device), coverage=coverage, abstain=abstain, device=device)
    return predictor.files(image_files(files, skipped), skipped=skipped, report=report), predictor.caution


def predict_images_cautiously(
    model: Path | Artifact,
    images: Sequence[ImageInput | Iterable[ImageInput]],
    *,
    coverage: float | None = None,
    abstain: float | None = None,
    device: torch.device | str = "cpu",
) -> Prediction | list[Prediction]:
    """`predict_images` with sets and abstention; `coverage`, `abstain` as in `CautiousPredictor`.

    Raises:
        RefusedError, ConfigError: as `caution_of`.
        ImageError, InputError: as `predict_images`.
    """
    artifact = opened(model, device=device)
    return answers_of(CautiousPredictor(artifact, coverage=coverage, abstain=abstain, device=device), images)


def feature_bank(predictor: Predictor, train: Samples, seed: int) -> torch.Tensor | None:
    """Features float16 [R, F] of a few training images, unit rows; None where the network has no features.

    Args:
        predictor: the network.
        train: packed training samples.
        seed: seed of their choice.
    """
    with watched_features(predictor.network) as seen:
        predictor.run(as_batch(np.array(train.images[:1])))
        if not seen:
            return None
        rows = bank_rows(len(train), seen.pop().shape[1], seed)
        for start in range(0, len(rows), predictor.batch_size):
            predictor.run(as_batch(_images(train, rows[start : start + predictor.batch_size])))
        return torch.cat(seen).half().cpu()


def _images(samples: Samples, rows: NDArray[np.int64]) -> Array:
    return np.stack([np.asarray(samples.images[i]) for i in rows])
