"""Kinds of targets, and how each follows its image through geometric changes.

A kind is named only here: a field of `TargetFields`, from which sources, samples, batches and the targets
of a split inherit it, and an entry of `KINDS`, which says how it follows its image. Every package that handles targets
loops over `targets`, a mapping by the kind's name, and a new kind passes through all of them.

| kind | one sample | follows its image |
|---|---|---|
| labels | int64: the number of a class | no |
| boxes | float32 [4], xyxy in pixels, x2 and y2 exclusive | moved, resized, fitted to the frame |
| masks | uint8 [H, W] of class numbers, 255 = void | moved, resized; decoded with its image |
| tags | uint8 [K], 1 for each class that is present | no |
| numbers | float32 [M], measurements | no |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.errors import DataError
from opsin.ops.masks import images_with_class
from opsin.types import VOID, SizePolicy

if TYPE_CHECKING:
    from torch import Tensor

NUM_NAMED = 20
Rows = TypeVar("Rows")
"""Rows of targets: a NumPy array in sources and samples, a tensor in batches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetFields(Generic[Rows]):
    """One field for each kind of target, with one row for each of N samples, or None.

    `labels`: int64 [N]. `boxes`: float32 [N, 4], xyxy in pixels, x2 and y2 exclusive. `masks`: uint8 [N, H, W], 255 =
    void. `tags`: uint8 [N, K]. `numbers`: float32 [N, M].
    """

    labels: Rows | None = None
    boxes: Rows | None = None
    masks: Rows | None = None
    tags: Rows | None = None
    numbers: Rows | None = None

    @property
    def targets(self) -> dict[str, Rows]:
        """The targets that are present, by kind."""
        return targets_of(self)

    def mapped(self, change: Callable[[TargetKind, Rows], Any]) -> dict[str, Any]:
        """Each target as `change` of its kind and its rows makes it, by the kind's name: keywords of a new holder."""
        return {name: change(KINDS[name], rows) for name, rows in self.targets.items()}


def scale_boxes(boxes: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] xyxy of an image that went from one (height, width) in pixels to another."""
    (H, W), (height, width) = before, after
    return boxes if before == after else boxes * boxes.new_tensor([width / W, height / H] * 2)


def targets_of(holder: object) -> dict[str, Any]:
    """The targets in memory in anything with a field for some kind, by kind."""
    found = {name: getattr(holder, name, None) for name in KINDS}
    return {name: rows for name, rows in found.items() if rows is not None}


class Motion(Protocol):
    """How the images of a batch were moved: what a kind of target needs to follow them."""

    def pixels(self, planes: Tensor, void: int) -> Tensor:
        """Planes uint8 [B, H, W] moved like the images, nearest pixel; `void` outside the source."""

    def envelopes(self, boxes: Tensor) -> Tensor:
        """Boxes float32 [B, 4] around the moved corners, clipped at the edge of the image."""


class TargetKind:
    """How a kind of target follows its image. By default it does not change, like a label.

    `stored`: its name in predictions.npz, next to the predictions. `with_images`: it is decoded and packed
    with the images, and is part of their content. `follows`: it changes with geometry. `bends`: it can follow a map
    that is not affine. `one_object`: it speaks of one object, which a reflection at the edge would show twice.
    `mixes`: two of them can be mixed in shares. `of_one_class`: there is something to learn though all samples are of
    one class. `fault`: what is wrong with those that cannot be trained on. `turned_note`: what a reader must know of
    those that were turned.
    """

    stored: str
    with_images = False
    follows = False
    bends = True
    one_object = False
    mixes = False
    of_one_class = False
    fault = "cannot be trained on"
    turned_note = ""

    def blank(self, count: int, height: int, width: int, num_outputs: int) -> Tensor:
        """Valid rows for `count` images, of which only memory and time matter."""
        raise NotImplementedError

    def move(self, rows: Tensor, motion: Motion) -> Tensor:
        """Rows of a batch after its images moved."""
        return rows

    def hide(self, rows: Tensor, hidden: Tensor) -> Tensor:
        """Rows of a batch of whose images the pixels bool [B, H, W] can no longer be seen."""
        return rows

    def kept(self, rows: Array) -> NDArray[np.bool_]:
        """Samples that still have their target after images moved: bool [N]."""
        return np.ones(len(rows), np.bool_)

    def resize(self, rows: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
        """Rows of a batch whose images went from one (height, width) to another."""
        return rows

    def fit(
        self, rows: Array, sizes: NDArray[np.int32], policy: SizePolicy, ids: Sequence[str]
    ) -> tuple[Array, list[str]]:
        """Rows of a split whose images of `sizes` [N, 2] were fitted to a frame, and notes on what was done to them."""
        return rows, []

    def counts(self, rows: Array, num_classes: int) -> NDArray[np.int64] | None:
        """Samples of each class, int64 [K]; None for a target without classes."""
        return None

    def shows(self, rows: Array, num_classes: int) -> NDArray[np.int64] | None:
        """Samples that show each class or have each number, int64 [K]; None for a target that speaks of neither."""
        return self.counts(rows, num_classes)

    def strata(self, rows: Array) -> NDArray[np.int64] | None:
        """Strata whose shares are kept when splits are drawn, int64 [N]; None without strata."""
        return None

    def renumbered(self, rows: Array, numbers: NDArray[np.int64], num_classes: int) -> Array:
        """Rows with class k renumbered to `numbers[k]`, of `num_classes`."""
        return rows

    def wrong(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        """Numbers of the samples whose target cannot be trained on."""
        return np.flatnonzero(np.zeros(len(rows), np.bool_))

    def expected(self, num_classes: int) -> str:
        """Description of valid targets."""
        return f"0 to {num_classes - 1}"


class Labels(TargetKind):
    """The number of a class."""

    stored = "labels"
    mixes = True
    fault = "name no class"

    def blank(self, count: int, height: int, width: int, num_outputs: int) -> Tensor:
        """The first class for each image."""
        import torch

        return torch.zeros(count, dtype=torch.int64)

    def counts(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        return np.bincount(rows, minlength=num_classes)

    def strata(self, rows: Array) -> NDArray[np.int64]:
        return rows

    def renumbered(self, rows: Array, numbers: NDArray[np.int64], num_classes: int) -> Array:
        return numbers[rows]

    def wrong(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        return np.flatnonzero((rows < 0) | (rows >= num_classes))


class Boxes(TargetKind):
    """A box around the object."""

    stored = "true_boxes"
    follows = True
    bends = False
    one_object = True
    of_one_class = True
    turned_note = "a turned box is the envelope of its corners, larger than the object"

    def blank(self, count: int, height: int, width: int, num_outputs: int) -> Tensor:
        """A box of the whole image."""
        import torch

        return torch.tensor([0.0, 0.0, width, height]).repeat(count, 1)

    def move(self, rows: Tensor, motion: Motion) -> Tensor:
        return motion.envelopes(rows)

    def kept(self, rows: Array) -> NDArray[np.bool_]:
        """Boxes of which some area is left."""
        return np.asarray((rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1]))

    def resize(self, rows: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
        return scale_boxes(rows, before, after)

    def fit(
        self, rows: Array, sizes: NDArray[np.int32], policy: SizePolicy, ids: Sequence[str]
    ) -> tuple[Array, list[str]]:
        """Boxes in the frame, clipped to it and counted; a box that is lost is refused."""
        from opsin.ops.resize import fit_boxes  # it needs torch, and `opsin data list` does not

        pairs = zip(rows, sizes, strict=True)
        fitted = np.stack([fit_boxes(box, int(height), int(width), policy) for box, (height, width) in pairs])
        limits = np.array([policy.width, policy.height] * 2, np.float32)
        clipped = np.clip(fitted, 0, limits).astype(np.float32)
        lost = np.flatnonzero((clipped[:, 2] <= clipped[:, 0]) | (clipped[:, 3] <= clipped[:, 1]))
        if len(lost):
            raise DataError(
                f"{len(lost)} boxes are outside what `{policy.fit}` keeps of their images",
                where=", ".join(ids[i] for i in lost[:NUM_NAMED]),
                do="use --fit pad or --fit squash, which cut nothing away",
            )
        num_clipped = int((np.abs(clipped - fitted).max(1) > 1e-3).sum())
        return clipped, [f"{num_clipped} boxes were clipped to the frame"] if num_clipped else []


class Masks(TargetKind):
    """The class of each pixel."""

    stored = "true_masks"
    with_images = True
    follows = True

    def blank(self, count: int, height: int, width: int, num_outputs: int) -> Tensor:
        """The first class everywhere."""
        import torch

        return torch.zeros(count, height, width, dtype=torch.uint8)

    def move(self, rows: Tensor, motion: Motion) -> Tensor:
        return motion.pixels(rows, VOID)

    def hide(self, rows: Tensor, hidden: Tensor) -> Tensor:
        """Hidden pixels are void, as nobody can see what they show."""
        return rows.masked_fill(hidden, VOID)

    def shows(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        return np.asarray(images_with_class(np.asarray(rows), num_classes), np.int64)

    def resize(self, rows: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
        """Each pixel takes the class under its centre; classes are not interpolated."""
        from torch.nn import functional

        return functional.interpolate(rows[:, None], size=after, mode="nearest-exact")[:, 0]

    def renumbered(self, rows: Array, numbers: NDArray[np.int64], num_classes: int) -> Array:
        table = np.arange(256, dtype=np.uint8)
        table[: len(numbers)] = numbers.astype(np.uint8)
        return table[rows]


class Tags(TargetKind):
    """Each class that is there."""

    stored = "true_tags"
    of_one_class = True
    fault = "are neither 0 nor 1"

    def blank(self, count: int, height: int, width: int, num_outputs: int) -> Tensor:
        """No class in any image."""
        import torch

        return torch.zeros(count, num_outputs, dtype=torch.uint8)

    def counts(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = rows.sum(axis=0, dtype=np.int64)
        return counts

    def strata(self, rows: Array) -> NDArray[np.int64]:
        """The rarest class of each sample, so that each split contains some; K for a sample without classes."""
        rarity = np.where(rows > 0, rows.sum(axis=0, dtype=np.int64), len(rows) + 1)
        rarest: NDArray[np.int64] = np.where(rows.any(axis=1), rarity.argmin(axis=1), rows.shape[1])
        return rarest

    def renumbered(self, rows: Array, numbers: NDArray[np.int64], num_classes: int) -> Array:
        moved = np.zeros((len(rows), num_classes), rows.dtype)
        moved[:, numbers] = rows
        return moved

    def wrong(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        return np.flatnonzero((rows > 1).any(axis=1))

    def expected(self, num_classes: int) -> str:
        return f"0 or 1 for each of {num_classes} classes"


class Numbers(TargetKind):
    """One or more measurements."""

    stored = "true_numbers"
    of_one_class = True
    fault = "are NaN or infinite"

    def blank(self, count: int, height: int, width: int, num_outputs: int) -> Tensor:
        """Zeros."""
        import torch

        return torch.zeros(count, num_outputs)

    def shows(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        return np.full(num_classes, len(rows), np.int64)

    def renumbered(self, rows: Array, numbers: NDArray[np.int64], num_classes: int) -> Array:
        moved = np.full((len(rows), num_classes), np.nan, rows.dtype)
        moved[:, numbers] = rows
        return moved

    def wrong(self, rows: Array, num_classes: int) -> NDArray[np.int64]:
        return np.flatnonzero(~np.isfinite(rows).all(axis=1))

    def expected(self, num_classes: int) -> str:
        return "finite numbers"


KINDS: Mapping[str, TargetKind] = {
    "labels": Labels(),
    "boxes": Boxes(),
    "masks": Masks(),
    "tags": Tags(),
    "numbers": Numbers(),
}
"""Every kind by the name of its field."""
IN_MEMORY = tuple(name for name, kind in KINDS.items() if not kind.with_images)
"""Kinds that a source keeps in memory, however its images are decoded."""
EARLIEST = ("labels", "boxes")
"""Kinds whose absence is part of the fingerprint of a data set, as it was before there were others."""


def shown_counts(targets: Mapping[str, Array], num_classes: int) -> NDArray[np.int64] | None:
    """Samples that show each class or have each number, int64 [K], by the first kind of target that speaks of them."""
    found = (KINDS[kind].shows(rows, num_classes) for kind, rows in targets.items())
    return next((counts for counts in found if counts is not None), None)
