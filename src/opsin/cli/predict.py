"""`opsin predict`: what a trained network says of image files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag


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
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
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
    from opsin.predict import predict_files
    from opsin.progress import Reporter
    from opsin.runs import Run

    if not images:
        raise RefusedError("no image to predict", do="name files or folders after the run")
    folder = Path(run)
    model = folder if (folder / "manifest.json").is_file() else Run.open(run, out=out).model_folder
    predictions = predict_files(model, images, masks=masks, report=Reporter(quiet=quiet))
    if boxes is not None:
        from opsin.predict_pictures import write_pictures

        write_pictures(predictions, boxes)
    if json_:
        print(json.dumps({"predictions": [asdict(prediction) for prediction in predictions]}, indent=2))
        return 0
    for prediction in predictions:
        notes = f"  ({'; '.join(prediction.notes)})" if prediction.notes else ""
        box = f" at {', '.join(f'{edge:.1f}' for edge in prediction.box)}" if prediction.box else ""
        print(f"{prediction.file}: {prediction.label} {prediction.score:.1%}{box}{notes}")
    return 0
