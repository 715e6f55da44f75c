"""`opsin predict`: what a trained network says of image files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, QuietFlag, SeedOption


def predict(
    run: str,
    /,
    *images: Path,
    out: Annotated[str, Parameter(help="Folder of runs.")] = "runs",
    masks: Annotated[
        Path | None, Parameter(help="Folder for predicted masks, PNG in the size of each image (segmentation).")
    ] = None,
    boxes: Annotated[
        Path | None, Parameter(help="Folder for pictures with the predicted box drawn in (localization).")
    ] = None,
    tile: Annotated[
        int | None,
        WHOLE,
        Parameter(help="Predict masks window by window, at the photo's own scale: side of a tile in px."),
    ] = None,
    overlap: Annotated[
        int | None,
        WHOLE,
        Parameter(help="With --tile: margin around each tile in px; by default all that a pixel looks at."),
    ] = None,
    weights: Annotated[
        str | None,
        Parameter(help="For a published network: a file, `package`, or `timm` or `torchvision`, which download."),
    ] = None,
    weights_range: Annotated[
        str | None, Parameter(help="What these weights expect, if they do not say: unit, signed, imagenet, caffe …")
    ] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Predict images: files, or folders of them.

    Parameters
    ----------
    run
        Run by path or name, a model folder, or a published network (`opsin models`), e.g. mobilenet_v2.
    images
        Image files and folders.
    """
    from opsin.errors import RefusedError
    from opsin.io.gate import printable
    from opsin.predict import predict_files
    from opsin.progress import Reporter
    from opsin.runs import Run

    if not images:
        raise RefusedError("no image to predict", do="name files or folders after the run")
    folder = Path(run)
    if weights is not None or _is_published(run, out):
        return _predict_published(run, images, weights, weights_range, json_=json_, quiet=quiet)
    model = folder if (folder / "manifest.json").is_file() else Run.open(run, out=out).model_folder
    if tile is None:
        if overlap is not None:
            raise RefusedError("an overlap without tiles", got=overlap, do="add --tile 512")
        predictions = predict_files(model, images, masks=masks, report=Reporter(quiet=quiet))
    else:
        from opsin.predict_tiles import predict_tiled

        if masks is None:
            raise RefusedError("masks predicted in tiles are written to files", do="add --masks FOLDER")
        predictions = predict_tiled(
            model, images, masks=masks, tile=tile, overlap=overlap, report=Reporter(quiet=quiet)
        )
    if boxes is not None:
        from opsin.predict_pictures import write_pictures

        write_pictures(predictions, boxes)
    if json_:
        print(json.dumps({"predictions": [asdict(prediction) for prediction in predictions]}, indent=2))
        return 0
    for prediction in predictions:
        notes = f"  ({'; '.join(prediction.notes)})" if prediction.notes else ""
        box = f" at {', '.join(f'{edge:.1f}' for edge in prediction.box)}" if prediction.box else ""
        print(f"{printable(prediction.file)}: {printable(prediction.label)} {prediction.score:.1%}{box}{notes}")
    return 0


def _is_published(name: str, out: str) -> bool:
    """Whether `name` is an architecture, and no run or model folder."""
    from opsin.models.registry import ENTRIES

    places = (Path(name) / "manifest.json", Path(name) / "config.json", Path(out) / name / "config.json")
    return not any(place.is_file() for place in places) and (name in ENTRIES or name.startswith("timm/"))


def _predict_published(
    name: str, images: tuple[Path, ...], weights: str | None, weights_range: str | None, *, json_: bool, quiet: bool
) -> int:
    """Print the likeliest classes of each image by a published network."""
    from opsin.io.gate import printable
    from opsin.predict import Predictor, image_files
    from opsin.predict_published import published_artifact
    from opsin.progress import Reporter

    report = Reporter(quiet=quiet)
    artifact, notes = published_artifact(name, weights=weights, weights_range=weights_range)
    for note in notes:
        report.message(f"weights: {note}")
    predictions = Predictor(artifact).files(image_files(images), report=report)
    if json_:
        print(json.dumps({"predictions": [asdict(prediction) for prediction in predictions]}, indent=2))
        return 0
    for prediction in predictions:
        top = ", ".join(f"{printable(label)} {share:.1%}" for label, share in prediction.top)
        print(f"{printable(prediction.file)}: {top}")
    return 0
