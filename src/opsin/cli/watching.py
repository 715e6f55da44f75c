"""`opsin predict --watch`: predictions of the images that appear in a folder, a line each, until it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.cli.output import print_line, print_note

if TYPE_CHECKING:
    from opsin.inference.predictor import Predictor
    from opsin.types import Prediction, Skipped


def watch(
    predictor: Predictor, folder: Path, *, masks: Path | None, line: Callable[[Prediction], str], as_json: bool
) -> int:
    """Predict each image of `folder` and each that comes, until Ctrl-C or SIGTERM.

    With `as_json` a line is one JSON document: the prediction, or {"file", "reason"} of a file that cannot be read.

    Returns:
        Exit status: 0, or 3 if files were skipped.

    Raises:
        InputError: as `arrivals`.
        ConfigError, WriteError: as `Predictor.files`.
    """
    from opsin.inference.watching import arrivals

    num_predicted = 0
    skipped: list[Skipped] = []
    print_note(f"watching {folder}: end with Ctrl-C")
    try:
        for path in arrivals(folder):
            num_before = len(skipped)
            for prediction in predictor.files([path], masks=masks, skipped=skipped):
                num_predicted += 1
                print_line(_document(prediction.to_json()) if as_json else line(prediction), flush=True)
            for lost in skipped[num_before:]:
                if as_json:
                    print_line(_document({"file": lost.file, "reason": lost.reason}), flush=True)
                print_note(f"skipped: {lost.file}: {lost.reason}")
    except KeyboardInterrupt:
        print_note(f"predicted: {num_predicted:,}; skipped: {len(skipped):,}")
    return 3 if skipped else 0


def _document(found: dict[str, object]) -> str:
    """A JSON document on one line; undefined values are null."""
    from opsin.io.files import as_json

    return json.dumps(as_json(found), allow_nan=False)
