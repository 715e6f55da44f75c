"""The targets of a split, and the arrays of predictions.npz that they share with the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array, Arrays
from opsin.data.targets import KINDS, TargetFields
from opsin.errors import DataError

if TYPE_CHECKING:
    from opsin.data.samples import Samples

Floats = NDArray[np.float64]
Rows = TypeVar("Rows")


@dataclass(frozen=True, kw_only=True)
class Targets(TargetFields[Array]):
    """The targets of a split, against which predictions are scored: its samples without pixels.

    `ids`: display name of each sample. `image_size`: (height, width) of the packed images, in whose pixels boxes
    are. The targets are those of `TargetFields`.
    """

    ids: Sequence[str]
    image_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, samples: Samples) -> Targets:
        """The targets of packed samples."""
        height, width = samples.images.shape[-2:]
        return cls(ids=tuple(samples.ids), image_size=(int(height), int(width)), **samples.mapped(lambda _, rows: rows))

    def take(self, rows: NDArray[np.int64]) -> Targets:
        """The targets at these indices, in this order."""
        taken = self.mapped(lambda _, values: values[rows])
        return Targets(ids=[self.ids[i] for i in rows], image_size=self.image_size, **taken)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Targets:
        """The targets among the arrays of predictions.npz, which has them as `arrays` gives them."""
        kept: dict[str, Any] = {name: arrays[kind.stored] for name, kind in KINDS.items() if kind.stored in arrays}
        return cls(ids=arrays["ids"].tolist(), **kept)

    def arrays(self) -> Arrays:
        """The targets as stored in predictions.npz: ids, and each kind under its `stored` name.

        Their names differ from those of the predictions, which are in the same file.
        """
        ids: Arrays = {"ids": np.asarray(list(self.ids), dtype=np.str_)}
        return ids | {KINDS[kind].stored: np.asarray(rows) for kind, rows in self.targets.items()}


def predictions_in(arrays: Mapping[str, Array]) -> Arrays:
    """The predictions among the arrays of predictions.npz: all that are neither ids nor targets."""
    targets = {"ids", *(kind.stored for kind in KINDS.values())}
    return {name: rows for name, rows in arrays.items() if name not in targets}


def required(rows: Rows | None, fault: str, *, expected: str, do: str | None = None) -> Rows:
    """The targets of one kind, of a split or of a batch.

    Raises:
        DataError: there are none; `fault`, `expected` and `do` are its words.
    """
    if rows is None:
        raise DataError(fault, expected=expected, do=do)
    return rows


def check_columns(predicted: Array, truth: Array, num_columns: int, *, said: str, kind: str) -> None:
    """Refuse rows of predictions that do not match those of the truth.

    Args:
        predicted: [N, K].
        truth: [N, K].
        num_columns: K, as the names of classes or numbers say.
        said: what the predictions are called.
        kind: the kind of target.

    Raises:
        DataError: the shapes differ.
    """
    if predicted.shape != truth.shape or predicted.shape[1] != num_columns:
        raise DataError(
            f"predictions and {kind} do not match",
            got=f"{said} {list(predicted.shape)}, {kind} {list(truth.shape)}",
            expected=f"[N, {num_columns}] both",
        )
