"""Masks of photos of any size, tile by tile: memory depends on the window, not on the photo.

    photo ─ windows at its own scale ─ network ─ the middle of each, or all of them blended ─ rows of the mask ─ PNG

Each window shows its tile and a margin around it. If the margin is at least as wide as the network's receptive field
(`models.reach`), every pixel has its full receptive field: the mask equals that of the whole photo, without
seams. A narrower margin costs less; then windows are blended where they overlap, with weights that change
continuously, so that there is no seam either, but predictions near a tile's edge have less context.

The photo is not resized to the training size: it is processed at its own scale. Objects should be about as
large, in pixels, as in the training images.

Shapes: K classes, H and W the photo's sides, h and w a window's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opsin.artifact import Artifact, opened
from opsin.config import require
from opsin.errors import ConfigError, InputError
from opsin.inference.predictor import Predictor, image_files, picture_paths, skipped_file
from opsin.io.large import mask_writer, open_pixels
from opsin.models.reach import reach
from opsin.models.wrappers.views import Views
from opsin.ops.depth import as_batch
from opsin.ops.mask_pictures import palette
from opsin.progress import QUIET, Reporter
from opsin.types import Prediction, SizePolicy, Skipped

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
SMALLEST_TILE = 32


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The tiling of a photo: side of the tiles and width of the margin around them, in pixels, multiples of the stride.

    `exact`: the margin covers the reach of the network.
    """

    tile: int
    margin: int
    exact: bool

    def words(self) -> str:
        """A note on the tiling for the user."""
        how = "the mask equals that of the whole photo" if self.exact else "windows are blended where they overlap"
        return f"processed at its own scale, in tiles of {self.tile} px with a margin of {self.margin} px: {how}"


class TiledPredictor:
    """A network for masks that processes photos tile by tile.

    Args:
        predictor: the network.
        tile: side of the tiles; rounded up to a multiple of the network's stride.
        overlap: width of the margin; None means the network's receptive field, and refuses a network with a global one.

    Raises:
        ConfigError: the network predicts no masks; its receptive field is global and no overlap is given; inconsistent
            sizes; further views, for which no sufficient margin is known.
    """

    def __init__(self, predictor: Predictor, *, tile: int, overlap: int | None = None) -> None:
        if not predictor.task.pixelwise:
            raise ConfigError("only masks are predicted in tiles", got=predictor.artifact.task, do="leave --tile out")
        if isinstance(predictor.network, Views):
            raise ConfigError("test-time augmentation does not apply to tiles", got="views", do="leave them out")
        require(tile >= SMALLEST_TILE, "tile", tile, f"{SMALLEST_TILE} or more")
        require(overlap is None or overlap >= 0, "overlap", overlap, "0 or more")
        self.predictor, self.task = predictor, predictor.task
        self.tiling = _tiling(predictor, tile, overlap)

    def file(self, photo: Path, mask: Path, *, report: Reporter = QUIET) -> Prediction:
        """Write the mask of a photo as a palette PNG of its size; returns the shares of its pixels.

        Raises:
            ImageError: the photo cannot be read.
            WriteError: the mask cannot be written.
        """
        pixels, notes = open_pixels(photo, self.predictor.bits)
        height, width = pixels.shape[1:]
        counts = np.zeros(len(self.predictor.artifact.classes), np.int64)
        with (
            mask_writer(mask, height, width, palette()) as writer,
            report.bar(f"predicting {photo.name}", height) as bar,
        ):
            for rows in self.rows(pixels):
                writer.write(rows)
                counts += np.bincount(rows.ravel(), minlength=len(counts))
                bar.advance(len(rows))
        found = self.task.of_counts(
            counts, self.predictor.artifact.classes, str(photo), notes=(*notes, self.tiling.words())
        )
        return replace(found, mask=str(mask))

    def rows(self, pixels: Bytes) -> Iterator[Bytes]:
        """The mask of a photo uint8 [C, H, W] from top to bottom, uint8 [n, W] at a time."""
        return self._exact(pixels) if self.tiling.exact else self._blended(pixels)

    def _exact(self, pixels: Bytes) -> Iterator[Bytes]:
        height, width = pixels.shape[1:]
        for top, bottom in _tiles(height, self.tiling.tile):
            rows = np.empty((bottom - top, width), np.uint8)
            y0, y1 = self._window(top, bottom, height)
            for left, right in _tiles(width, self.tiling.tile):
                x0, x1 = self._window(left, right, width)
                logits = self.logits(pixels[:, y0:y1, x0:x1])
                middle = logits[:, top - y0 : bottom - y0, left - x0 : right - x0]
                rows[:, left:right] = middle.argmax(0).to(torch.uint8).numpy()
            yield rows

    def _blended(self, pixels: Bytes) -> Iterator[Bytes]:
        """Blend windows across into strips, and strips downwards; two strips exist, on disk."""
        height, margin = pixels.shape[1], self.tiling.margin
        with tempfile.TemporaryDirectory() as folder:
            carried: Floats | None = None
            for number, (top, bottom) in enumerate(_tiles(height, self.tiling.tile)):
                y0, y1 = self._window(top, bottom, height)
                strip = self._strip(pixels[:, y0:y1], Path(folder) / f"strip-{number % 2}")
                strip *= _ramps(top, bottom, height, margin)[None, :, None]
                if carried is not None:
                    strip[:, : carried.shape[1]] += carried
                done = (bottom - margin if bottom < height else height) - y0
                for start in range(0, done, SMALLEST_TILE):
                    yield strip[:, start : min(start + SMALLEST_TILE, done)].argmax(0).astype(np.uint8)
                carried = strip[:, done:]

    def _strip(self, pixels: Bytes, file: Path) -> Floats:
        """Probabilities float32 [K, h, W] of a strip of the photo, windows blended across; mapped from `file`."""
        height, width = pixels.shape[1:]
        shape = (len(self.predictor.artifact.classes), height, width)
        strip = np.memmap(file, np.float32, mode="w+", shape=shape)
        for left, right in _tiles(width, self.tiling.tile):
            x0, x1 = self._window(left, right, width)
            probabilities = self.logits(pixels[:, :, x0:x1]).softmax(0).numpy()
            strip[:, :, x0:x1] += probabilities * _ramps(left, right, width, self.tiling.margin)
        return strip

    def _window(self, begin: int, end: int, length: int) -> tuple[int, int]:
        """First and last row or column of a tile's window."""
        return max(0, begin - self.tiling.margin), min(length, end + self.tiling.margin)

    @torch.inference_mode()
    def logits(self, pixels: Bytes) -> Tensor:
        """Logits float32 [K, h, w] of a window uint8 or uint16 [C, h, w], at its own scale."""
        size = SizePolicy(height=pixels.shape[1], width=pixels.shape[2], bits=self.predictor.bits)
        contract = replace(self.predictor.artifact.preprocess, size=size)
        forward = replace(self.predictor.forward, preprocess=contract)
        seen = as_batch(np.array(contract.fit_image(pixels)))[None]
        logits: Tensor = forward(self.predictor.network, seen)[self.task.main_output]
        return logits[0].float().cpu()


def predict_tiled(
    model: Path | Artifact,
    files: Sequence[Path],
    *,
    masks: Path,
    tile: int,
    overlap: int | None = None,
    device: torch.device | str = "cpu",
    skipped: list[Skipped] | None = None,
    report: Reporter = QUIET,
) -> list[Prediction]:
    """Masks of photos of any size in the folder `masks`, as palette PNGs; a prediction for each photo.

    Raises:
        ConfigError: as `TiledPredictor`, or as `picture_paths`.
        ImageError: without `skipped`, a photo cannot be read; the masks of those before it are written.
    """
    predictor = Predictor(opened(model, device=device), device=device)
    tiled = TiledPredictor(predictor, tile=tile, overlap=overlap)
    photos = image_files(files, skipped)
    pictures = picture_paths(photos, masks)
    found: list[Prediction] = []
    for photo, mask in zip(photos, pictures, strict=True):
        try:
            found.append(tiled.file(photo, mask, report=report))
        except InputError as error:
            if skipped is None:
                raise
            skipped.append(skipped_file(photo, error))
    return found


def _tiling(predictor: Predictor, tile: int, overlap: int | None) -> Tiling:
    network, contract = predictor.artifact.network, predictor.artifact.preprocess
    stride = int(getattr(network, "stride", 1))
    side, needed = _whole(tile, stride), reach(network, contract.channels, stride)
    if overlap is None and needed is None:
        what, do = (
            "the receptive field of this network is the whole photo, so no tile is exact",
            "give an overlap, e.g. --overlap 64",
        )
        raise ConfigError(what, got=predictor.artifact.spec.name, do=do)
    margin = _whole(needed if overlap is None else overlap, stride)  # type: ignore[arg-type]
    exact = needed is not None and margin >= needed
    require(exact or 2 * margin <= side, "overlap", overlap, f"at most half of the tile, {side // 2}")
    return Tiling(tile=side, margin=margin, exact=exact)


def _whole(length: int, stride: int) -> int:
    """The least multiple of the stride not below `length`: grids of coarse maps must align between windows."""
    return -(-length // stride) * stride


def _tiles(length: int, side: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each tile along one side of the photo."""
    return ((begin, min(begin + side, length)) for begin in range(0, length, side))


def _ramps(begin: int, end: int, length: int, margin: int) -> Floats:
    """Weights float32 of a window's rows or columns: 1 inside, falling to 0 over twice the margin at inner edges.

    The weights of neighbours sum to 1.
    """
    places = np.arange(max(0, begin - margin), min(length, end + margin)) + 0.5
    weights = np.ones(len(places))
    if margin and begin > 0:
        weights = np.minimum(weights, (places - (begin - margin)) / (2 * margin))
    if margin and end < length:
        weights = np.minimum(weights, ((end + margin) - places) / (2 * margin))
    return weights.astype(np.float32)
