"""Conformal prediction and abstention: what the predictions on val say about the reliability of further ones.

Three columns over the val images determine the prediction sets and the abstention threshold for any coverage or risk
that is requested later: the probability of the true class, that of the predicted class, and whether it was right. A
fourth measures how unlike the training images each val image is: the distance of its features from the nearest of a few
training images. The distance of a new image is compared with it.

The columns are stored in the artefact, so the guarantee travels with the network; it holds for images from the
distribution of the val images.

Shapes: N val images, R training images of the bank, B images of a batch, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from opsin.arrays import Arrays
from opsin.errors import ArtifactError, ConfigError, RefusedError
from opsin.ops.conformal import conformal_p, conformal_threshold, coverage_interval
from opsin.ops.selective import CERTAINTY, Abstention, abstain_threshold
from opsin.tasks.targets import Targets

UNLIKE = 0.01
"""Share of in-distribution images flagged as unlike the training images; with a bounded risk they are not answered."""
BANK = 1000
BANK_NUMBERS = 1 << 22
"""Largest number of values in the bank: with long feature vectors it contains fewer images."""
COLUMNS = ("true_class", "confidence", "correct", "distance", "bank")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answering:
    """Statistics of a network's predictions on val.

    `true_class`, `confidence`: float32 [N]. `correct`: bool [N]. `distance`: float32 [N], 0 to 2, and `bank`: float16
    [R, F], unit rows; both are empty where the network has no features to compare.
    """

    true_class: NDArray[np.float32]
    confidence: NDArray[np.float32]
    correct: NDArray[np.bool_]
    distance: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    bank: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), np.float16))

    def __len__(self) -> int:
        return len(self.true_class)

    def set_threshold(self, coverage: float) -> float:
        """Least probability at which a class enters a prediction set of that coverage."""
        _check_share("coverage", coverage)
        return conformal_threshold(self.true_class, coverage)

    def coverage_interval(self, coverage: float) -> tuple[float, float]:
        """95 % interval of the coverage on further images, over draws of val."""
        return coverage_interval(len(self), coverage)

    def abstention(self, risk: float) -> Abstention:
        """The confidence threshold above which at most a share `risk` of the answers is wrong.

        Val images unlike the training images are left out: such images are not answered.

        Raises:
            RefusedError: there are too few val images to guarantee this risk; the message says which risk they can.
        """
        _check_share("abstain", risk)
        found = self._abstention(risk)
        if found is not None:
            return found
        promised = next((step / 100 for step in range(1, 100) if self._abstention(step / 100) is not None), None)
        do = f"--abstain {promised:g} can be guaranteed" if promised and promised > risk else "score more val images"
        raise RefusedError(
            "no threshold guarantees so small a risk",
            got=f"{risk:g}, from {len(self):,} val images of which {int((~self.correct).sum()):,} are wrong",
            expected=f"a risk that holds in {CERTAINTY:.0%} of draws of that many images",
            do=do,
        )

    def _abstention(self, risk: float) -> Abstention | None:
        usual = self.typicality(self.distance) > UNLIKE if len(self.distance) else np.ones(len(self), bool)
        return abstain_threshold(self.confidence[usual], self.correct[usual], risk)

    def typicality(self, distances: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of val images that are at least as far from the training images as these: float64 [B] of [B]."""
        return conformal_p(self.distance, distances)

    def tensors(self) -> dict[str, Tensor]:
        """The columns as an artefact stores them."""
        return {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in COLUMNS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, where: object) -> Answering:
        """The inverse of `tensors`.

        Raises:
            ArtifactError: a column is missing, or has another length or type.
        """
        if set(tensors) != set(COLUMNS):
            raise ArtifactError(
                "answering.safetensors has other tensors than expected",
                where=where,
                got=sorted(tensors),
                expected=sorted(COLUMNS),
                do="copy the artefact again",
            )
        found: dict[str, Any] = {name: tensors[name].numpy() for name in COLUMNS}
        sizes = {name: list(found[name].shape) for name in COLUMNS}
        count = len(found["true_class"])
        kinds = {"correct": np.bool_, "bank": np.float16}
        ok = all(found[name].dtype == kinds.get(name, np.float32) for name in COLUMNS) and found["bank"].ndim == 2
        ok = ok and all(found[name].shape == (count,) for name in COLUMNS[:3]) and count > 0
        if not ok or found["distance"].shape not in ((0,), (count,)):
            raise ArtifactError(
                "the columns of val differ in length or type", where=where, got=sizes, do="copy the artefact again"
            )
        return cls(**found)


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"`{name}` is not a share", got=value, expected="0 < x < 1", do=f"e.g. --{name} 0.05")


def answering_of(
    predictions: Arrays,
    targets: Targets,
    *,
    distances: Sequence[Tensor] = (),
    bank: Tensor | None = None,
) -> Answering | None:
    """Statistics of the predictions on val; None for a task without one class per image, or without val images.

    Args:
        predictions: with "probabilities", floating [N, K].
        targets: with labels [N].
        distances: from the bank, float32, N in all: of each batch as `watched_distances` gives them.
        bank: float [R, F].
    """
    if targets.labels is None or "probabilities" not in predictions or not len(targets):
        return None
    probabilities, rows = predictions["probabilities"], np.arange(len(targets))
    found: dict[str, Any] = {
        "true_class": probabilities[rows, targets.labels].astype(np.float32),
        "confidence": probabilities.max(axis=1).astype(np.float32),
        "correct": probabilities.argmax(axis=1) == targets.labels,
    }
    if bank is not None and sum(map(len, distances)) == len(targets):
        found |= {"distance": torch.cat(list(distances)).numpy(), "bank": bank.cpu().half().numpy()}
    return Answering(**found)


def class_head(network: nn.Module) -> nn.Module | None:
    """The module whose input is the feature vector of the class decision; None where there is none."""
    heads = getattr(network, "heads", None)
    return heads["logits"] if isinstance(heads, nn.ModuleDict) and "logits" in heads else None


@contextmanager
def watched_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Context in which the features of each batch through `network` are collected, float32 [B, F] of unit length.

    The list stays empty where the network has no feature vector.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim == 2:
            seen.append(unit_rows(inputs[0]))

    head = class_head(network)
    if head is None:
        yield seen
        return
    handle = head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def watched_distances(network: nn.Module, bank: Tensor | None) -> Iterator[list[Tensor]]:
    """Context in which the distance of each image through `network` from the bank is collected, float32 [B] per batch.

    Nothing is collected without a bank.
    """
    found: list[Tensor] = []
    if bank is None or not bank.numel():
        yield found
        return
    bank = bank.float()
    with watched_features(network) as seen:
        head = class_head(network)

        def measure(*_: object) -> None:
            found.extend(distances(seen.pop(), bank) for _ in range(len(seen)))

        handle = None if head is None else head.register_forward_hook(measure)
        try:
            yield found
        finally:
            if handle is not None:
                handle.remove()


def unit_rows(features: Tensor) -> Tensor:
    """Features [B, F] normalized to unit length, float32."""
    return normalize(features.detach().float(), dim=1)


def distances(features: Tensor, bank: Tensor) -> Tensor:
    """Distance of each row from the nearest row of the bank, float32 [B], 0 (the same direction) to 2 (opposite).

    Args:
        features: float32 [B, F], rows of length one.
        bank: float [R, F], rows of length one.

    Source: Sun et al. 2022, arXiv 2204.06507 (nearest neighbours in normalized features).
    """
    nearest = (features @ bank.to(features).T).amax(dim=1).clamp(-1, 1)
    return (2 - 2 * nearest).sqrt().cpu()


def bank_rows(num_samples: int, num_features: int, seed: int) -> NDArray[np.int64]:
    """Indices of the training images whose features form the bank, ascending."""
    count = min(num_samples, BANK, max(1, BANK_NUMBERS // max(num_features, 1)))
    return np.sort(np.random.default_rng(seed).permutation(num_samples)[:count]).astype(np.int64)


def words_of_coverage(rules: Answering, coverage: float) -> str:
    """One sentence that explains the guarantee of prediction sets."""
    low, high = rules.coverage_interval(coverage)
    right = float(rules.correct.mean())
    alone = f"; the likeliest class alone is right in {right:.1%} of them" if right >= coverage else ""
    return (
        f"sets that hold the true class in {coverage:.1%} of images like the {len(rules):,} of val "
        f"({low:.1%} to {high:.1%} over draws of val){alone}"
    )


def words_of_abstention(rules: Answering, found: Abstention, risk: float) -> str:
    """One sentence that explains the guarantee of abstention."""
    threshold = "any" if found.threshold == 0 else f"more than {found.threshold:.1%}"
    return (
        f"answered with {threshold} confidence: {found.coverage:.1%} of val, {found.risk:.1%} of these wrong; "
        f"at most {risk:.1%} of the answers on images like those of val are wrong, with {CERTAINTY:.0%} certainty"
    )
