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
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Predict images: files, or folders of them.

    Parameters
    ----------
    run
        Run by path or name, or a model folder.
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
