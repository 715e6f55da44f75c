"""The one inference path: bytes -> preprocess -> network -> prediction.

Evaluation, the command line and the server all use `Predictor`, so that they cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from opsin.artifact import Artifact, opened
from opsin.data.samples import Samples
from opsin.errors import ConfigError, ImageError, InputError, OpsinError
from opsin.io.files import write_atomically, writing
from opsin.io.foreign import CONVERT, FOREIGN_SUFFIXES, foreign_format
from opsin.io.gate import first_bytes
from opsin.io.images import IMAGE_SUFFIXES, DecodedImage, Sides, encode_mask
from opsin.io.in_memory import EXPECTED, ImageInput, image_name, image_of
from opsin.io.walking import walk_files
from opsin.models.wrappers.forward import Forward
from opsin.models.wrappers.views import ViewName, Views
from opsin.ops.depth import as_batch
from opsin.ops.mask_pictures import palette
from opsin.ops.resize import resampled_size, unfit_mask
from opsin.progress import QUIET, Reporter
from opsin.score_notes import TEST_AS_VAL
from opsin.tasks import get_task
from opsin.types import Prediction, SizePolicy, Skipped

BATCH_SIZE = 256
NUM_MAGIC = 128
NUM_NAMED = 20
PIXELS_AT_ONCE = 1 << 19
"""Largest number of pixels of one forward pass, which bounds the memory of the first layers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """An image at the network's size.

    `name`: its path, or its index among the images. `pixels`: uint8 [C, H, W], of a network of 16 bits uint16.
    `original`: its own height and width. `notes`: changes made to it.
    """

    name: str
    pixels: np.ndarray
    original: tuple[int, int]
    notes: tuple[str, ...]


class Predictor:
    """A network with its preprocessing and decoding.

    Args:
        artifact: network, classes and preprocessing contract.
        device: device of the network.
        batch_size: images in one forward pass, fewer if they are large; affects speed and memory, and predictions
            only by rounding.
        views: further views of each image, whose predictions are averaged with its own: test-time augmentation.

    Raises:
        ConfigError: as `Views`; or the network does not accept the sizes of these views.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = BATCH_SIZE,
        views: Sequence[ViewName] = (),
    ) -> None:
        self.artifact = artifact
        self.device = torch.device(device)
        size = artifact.preprocess.size
        self.forward = Forward(preprocess=artifact.preprocess, device=self.device)
        self.task = get_task(artifact.task).with_fitted(artifact.meta.get("fitted", {}))
        self.network: nn.Module = artifact.network.to(self.device).eval()
        self.notes: tuple[str, ...] = (TEST_AS_VAL,) if artifact.meta.get("test_as_val") else ()
        """Notes for every prediction."""
        shown = float(size.height * size.width)
        if views:
            seen = Views(self.network, views, self.task.averaging).eval()
            shown *= seen.largest**2
            seen.check_sizes(torch.zeros(1, artifact.preprocess.channels, size.height, size.width, device=self.device))
            self.network, self.notes = seen, (*self.notes, f"the mean over {len(seen.views)} views")
        self.batch_size = min(batch_size, max(1, int(PIXELS_AT_ONCE // shown)))

    @torch.inference_mode()
    def run(self, images: Tensor) -> dict[str, np.ndarray]:
        """Decoded predictions of one batch.

        Args:
            images: uint8 [B, C, H, W] of the contract's size, or float32 in [0, 255] (`ops.depth.as_batch`).

        Returns:
            Arrays of B rows, e.g. {"probabilities": float32 [B, K]}.
        """
        decoded = self.task.decode(self.forward(self.network, images))
        return {
            key: (value.float() if value.is_floating_point() else value).cpu().numpy() for key, value in decoded.items()
        }

    def samples(
        self, samples: Samples, *, report: Reporter = QUIET, title: str = "predicting"
    ) -> dict[str, np.ndarray]:
        """Decoded predictions of a whole split, in its order; `report` shows progress under `title`."""
        found = []
        with report.bar(title, len(samples.images)) as bar:
            for start in range(0, len(samples.images), self.batch_size):
                # a copy: torch takes no read-only memory map
                images = np.array(samples.images[start : start + self.batch_size])
                found.append(self.run(as_batch(images)))
                bar.advance(len(images))
        return _concatenated(found)

    def files(
        self,
        files: Sequence[ImageInput],
        *,
        masks: Path | None = None,
        skipped: list[Skipped] | None = None,
        report: Reporter = QUIET,
    ) -> list[Prediction]:
        """A prediction for each image, in order.

        Args:
            files: image files, or images in memory (`opsin.io.in_memory`).
            masks: folder for predicted masks, PNG files of each image's size; created if missing.
            skipped: list to which unreadable files are appended; they get no prediction.
            report: shows progress.

        Raises:
            ImageError: without `skipped`, listing every unreadable file; there are no predictions in that case, but
                masks of earlier files may have been written.
            ConfigError: `masks` is given, but the network predicts none; or as `picture_paths`.
            WriteError: the folder of masks cannot be made, or a mask cannot be written.
        """
        if masks is not None:
            self._check_masks(files, masks)
        found: list[Prediction] = []
        refused: list[tuple[str, ImageError]] = []
        with report.bar("predicting", len(files)) as bar:
            for start in range(0, len(files), self.batch_size):
                chunk = files[start : start + self.batch_size]
                fitted = list(self._fitted(chunk, start, refused))
                if fitted and (skipped is not None or not refused):
                    found.extend(self._chunk(fitted, masks))
                bar.advance(len(chunk))
        if skipped is None:
            _refuse([error for _, error in refused])
        else:
            skipped.extend(skipped_file(name, error) for name, error in refused)
        return found

    def _check_masks(self, files: Sequence[ImageInput], masks: Path) -> None:
        if not get_task(self.artifact.task).pixelwise:
            raise ConfigError("this network predicts no masks", got=self.artifact.task, do="leave --masks out")
        # refused before any image is read
        picture_paths([Path(image_name(file, number)) for number, file in enumerate(files)], masks)
        with writing(masks):
            masks.mkdir(parents=True, exist_ok=True)

    def _fitted(
        self, items: Sequence[ImageInput], first: int, refused: list[tuple[str, ImageError]]
    ) -> Iterator[Fitted]:
        """The readable images, at the network's size; errors of the others are appended to `refused`.

        Each is fitted as soon as it is decoded: a batch of photos at their own sizes may not fit into memory. `first`
        is the index of the first one.
        """
        for number, item in enumerate(items, first):
            name = image_name(item, number)
            try:
                image = image_of(item, name, self.sides, self.bits)
            except ImageError as error:
                refused.append((name, error))
                continue
            yield self.fit(image, name)

    @property
    def sides(self) -> Sides:
        """Height and width at which the network looks at an image, from the image's own: so much has to be decoded."""
        return resampled_size(self.artifact.preprocess.size)

    @property
    def bits(self) -> int:
        """Bits a channel at which images are decoded: 16 for a network that was trained on them, else 8."""
        return self.artifact.preprocess.size.bits

    def fit(self, image: DecodedImage, name: str) -> Fitted:
        """A decoded image at the network's size; `name` is its display name. Thread-safe."""
        contract = self.artifact.preprocess
        notes = (*image.notes, *_size_notes(*image.size, contract.size), *self.notes)
        pixels = contract.fit_image(image.pixels, image.size)
        return Fitted(name=name, pixels=pixels, original=image.size, notes=notes)

    def answers(self, images: Sequence[Fitted]) -> list[Prediction]:
        """A prediction for each fitted image, in order."""
        starts = range(0, len(images), self.batch_size)
        return [said for start in starts for said in self._chunk(images[start : start + self.batch_size], None)]

    def _chunk(self, images: Sequence[Fitted], masks: Path | None) -> list[Prediction]:
        """Predictions of one batch, with masks written if a folder is given."""
        size = self.artifact.preprocess.size
        predictions = self.run(as_batch(np.stack([image.pixels for image in images])))
        found = [
            self.task.describe(
                predictions,
                i,
                self.artifact.classes,
                image.name,
                original_size=image.original,
                policy=size,
                notes=image.notes,
            )
            for i, image in enumerate(images)
        ]
        if masks is None:
            return found
        written = picture_paths([Path(image.name) for image in images], masks)
        for path, mask, image in zip(written, predictions["masks"], images, strict=True):
            write_atomically(path, encode_mask(unfit_mask(mask, *image.original, size), palette()))
        return [replace(prediction, mask=str(path)) for prediction, path in zip(found, written, strict=True)]


def predict_files(
    model: Path | Artifact,
    files: Sequence[Path],
    *,
    masks: Path | None = None,
    views: Sequence[ViewName] = (),
    device: torch.device | str = "cpu",
    skipped: list[Skipped] | None = None,
    report: Reporter = QUIET,
) -> list[Prediction]:
    """Predictions of a network, or of one saved in a folder, for image files and folders of them.

    `masks` and `skipped` as in `Predictor.files` and `image_files`; `views` and `device` as in `Predictor`.
    """
    photos = image_files(files, skipped)
    predictor = Predictor(opened(model, device=device), device=device, views=views)
    return predictor.files(photos, masks=masks, skipped=skipped, report=report)


def predict_images(
    model: Path | Artifact,
    images: Sequence[ImageInput | Iterable[ImageInput]],
    *,
    views: Sequence[ViewName] = (),
    device: torch.device | str = "cpu",
) -> Prediction | list[Prediction]:
    """The prediction of a network for one image, or a list for several: more than one item, lists, folders.

    `model`, `views` and `device` as in `predict_files`.

    Raises:
        ImageError: an image cannot be read.
        InputError: a file does not exist, or a folder contains no image.
    """
    return answers_of(Predictor(opened(model, device=device), device=device, views=views), images)


def answers_of(
    predictor: Predictor, images: Sequence[ImageInput | Iterable[ImageInput]]
) -> Prediction | list[Prediction]:
    """The prediction of a predictor for one image, or a list for several, as `predict_images`."""
    found = predictor.files([image for item in images for image in _listed(item)])
    return found if len(images) != 1 or _holds_several(images[0]) else found[0]


def _holds_several(item: ImageInput | Iterable[ImageInput]) -> bool:
    """Whether an item is a folder or a list of images."""
    if isinstance(item, str | Path):
        return Path(item).is_dir()
    return not isinstance(item, bytes | np.ndarray) and isinstance(item, Iterable)


def _listed(item: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """The images of one item; files and folders as `image_files` finds them.

    Raises:
        ImageError: a tensor.
    """
    if isinstance(item, str | Path):
        return [*image_files([Path(item)])]
    if isinstance(item, Iterable) and not isinstance(item, bytes | np.ndarray):
        if isinstance(item, Tensor):
            raise ImageError("not an image", got="Tensor", expected=EXPECTED, do="give an array: uint8 [H, W, 3]")
        return [image for one in item for image in _listed(one)]
    return [item]


def picture_paths(files: Sequence[Path], folder: Path) -> list[Path]:
    """The output path of each image's picture: the image's name with `.png`, in `folder`, in order.

    Raises:
        ConfigError: two images have the same name; or a picture would overwrite an image.
    """
    pictures = [folder / f"{file.stem}.png" for file in files]
    twice = [path.name for path, count in Counter(pictures).items() if count > 1]
    if twice:
        what, do = (
            "files have the same name: one picture would overwrite the other",
            "predict them one folder at a time",
        )
        raise ConfigError(what, got=", ".join(twice[:10]), do=do)
    images = {file.resolve() for file in files}
    lost = [str(path) for path in pictures if path.resolve() in images]
    if lost:
        do = "name a folder without images"
        raise ConfigError("the pictures would overwrite the images", where=folder, got=", ".join(lost[:10]), do=do)
    return pictures


def skipped_file(file: Path | str, error: OpsinError) -> Skipped:
    """The record of a file skipped because of an error."""
    reason = f"{error.what}; {error.do}" if error.do else error.what
    return Skipped(file=str(file), reason=reason)


def image_files(paths: Iterable[Path], skipped: list[Skipped] | None = None) -> list[Path]:
    """The files named, and the image files in the folders named, in natural order.

    Args:
        paths: files and folders.
        skipped: list to which pictures in unsupported formats (HEIC, AVIF, TIFF, …) in folders are appended.

    Raises:
        InputError: a path does not exist, or a folder contains no image; or, without `skipped`, one of such a format.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = walk_files(path)
            images = [file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES]
            foreign = [file for file in inside if file.suffix.lower() in FOREIGN_SUFFIXES]
            if not images and not foreign:
                raise InputError(
                    "the folder contains no images", where=path, expected=", ".join(sorted(IMAGE_SUFFIXES))
                )
            _skip_foreign(foreign, skipped)
            found.extend(images)
        elif path.is_file():
            found.append(path)
        else:
            got = "a pipe, a socket or a device" if path.exists() else None
            raise InputError("no such image file or folder", where=path, got=got, expected="an existing file or folder")
    return found


def _skip_foreign(files: Sequence[Path], skipped: list[Skipped] | None) -> None:
    """Record pictures in unsupported formats, identified by their bytes; refuse them without a list."""
    told = [(file, foreign_format(first_bytes(file, InputError, NUM_MAGIC))) for file in files]
    lost = [Skipped(file=str(file), reason="; ".join(known or ("an unknown format", CONVERT))) for file, known in told]
    if skipped is not None:
        skipped.extend(lost)
    elif lost:
        got = "; ".join(f"{entry.file}: {entry.reason}" for entry in lost[:NUM_NAMED])
        raise InputError(f"{len(lost)} pictures are in unsupported formats", got=got, do="convert or remove them")


def _size_notes(height: int, width: int, size: SizePolicy) -> tuple[str, ...]:
    """How an image was fitted to the network's size, if it had another."""
    if (height, width) == (size.height, size.width):
        return ()
    return (f"{width}x{height} px fitted to {size.width}x{size.height} px by {size.fit}",)


def _refuse(refused: Sequence[ImageError]) -> None:
    """Raise all refusals as one error, if there are any."""
    if len(refused) == 1:
        raise refused[0]
    if refused:
        listed = "; ".join(f"{error.where}: {error.what}" for error in refused)
        raise ImageError(
            f"{len(refused)} files cannot be read, so nothing was predicted",
            got=listed,
            do="remove them, or leave --strict out",
        )


def _concatenated(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    collected = list(parts)
    return {key: np.concatenate([part[key] for part in collected]) for key in collected[0]} if collected else {}
