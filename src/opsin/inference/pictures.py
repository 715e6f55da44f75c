"""Predicted boxes drawn into their photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from opsin.artifact import Artifact, opened
from opsin.errors import ConfigError
from opsin.inference.predictor import Predictor, image_files, picture_paths
from opsin.io.files import write_atomically, writing
from opsin.io.images import encode_png, read_image
from opsin.models.wrappers.views import ViewName
from opsin.ops.box_pictures import PREDICTED, draw_box
from opsin.progress import QUIET, Reporter
from opsin.tasks import get_task
from opsin.types import Prediction, Skipped


def predict_pictured(
    model: Path | Artifact,
    files: Sequence[Path],
    *,
    boxes: Path,
    views: Sequence[ViewName] = (),
    device: torch.device | str = "cpu",
    skipped: list[Skipped] | None = None,
    report: Reporter = QUIET,
) -> list[Prediction]:
    """Predictions of a saved network for image files and folders of them, and a picture of each with its box.

    Args:
        model: the network, or the folder it is saved in.
        files: image files and folders of them.
        boxes: folder for the pictures, as `write_pictures` makes them.
        views, device: as in `Predictor`.
        skipped: as in `predict_files`.
        report: shows progress.

    Raises:
        ConfigError: the network predicts no boxes; or as `picture_paths`. No image is read in that case.
        WriteError: the folder cannot be made, or a picture cannot be written.
        ImageError: without `skipped`, listing every unreadable file; nothing is drawn in that case.
    """
    artifact = opened(model, device=device)
    if not get_task(artifact.task).gives_boxes:
        raise ConfigError("this network predicts no boxes", got=artifact.task, do="leave --boxes out")
    photos = image_files(files, skipped)
    picture_paths(photos, boxes)  # before any image is read
    with writing(boxes):
        boxes.mkdir(parents=True, exist_ok=True)
    found = Predictor(artifact, device=device, views=views).files(photos, skipped=skipped, report=report)
    write_pictures(found, boxes)
    return found


def write_pictures(predictions: Sequence[Prediction], folder: Path) -> list[Path]:
    """A PNG of each image with its predicted box, in the size of the image.

    Args:
        predictions: predictions of existing image files.
        folder: where the pictures go; created if missing.

    Returns:
        The files written, in order: the images' names with `.png`.

    Raises:
        ConfigError: the network predicts no boxes; or as `picture_paths`.
        ImageError: an image has become unreadable.
    """
    if any(prediction.box is None for prediction in predictions):
        raise ConfigError("this network predicts no boxes", expected="a localization run", do="name a localization run")
    pictures = picture_paths([Path(prediction.file) for prediction in predictions], folder)
    folder.mkdir(parents=True, exist_ok=True)
    for picture, prediction in zip(pictures, predictions, strict=True):
        assert prediction.box is not None  # checked above
        drawn = draw_box(read_image(prediction.file).pixels, prediction.box, PREDICTED)
        write_atomically(picture, encode_png(drawn))
    return pictures
