"""Verbs that put a network to use outside of Opsin: export, serve."""

from __future__ import annotations

from pathlib import Path

from opsin.api.verbs import AnyRun, model_folder, opened_run
from opsin.exports.exporting import Exported, export_model
from opsin.exports.formats import FormatName
from opsin.progress import Reporter
from opsin.runs import RUNS_FOLDER
from opsin.types import Score


def export(
    run: AnyRun,
    *,
    format: FormatName = "onnx",
    file: Path | str | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = True,
) -> Exported:
    """A run's network as one file for other programs: uint8 images in, predictions out.

    Preprocessing and decoding are inside the file; only the resize to its input's size is left to its user, and
    `predict.py` beside an ONNX file does that as Opsin does. The golden images of the network are replayed on the file,
    and one that answers otherwise is deleted.

    Args:
        run: a run, or a model folder.
        format: "onnx" or "torch" (a `torch.export` program).
        file: a new folder, or a file name that ends in .onnx or .pt2; by default the folder NAME-FORMAT.
        out: where names of runs are looked for.
        quiet: no messages.

    Raises:
        ConfigError: no such format, or its packages are missing.
        RefusedError: the network cannot be exported.
        CheckFailedError: the file answers otherwise than the network.
        WriteError: the folder is there already, or cannot be written.
    """
    model = model_folder(run, out)
    name, scores = _name_and_scores(run, model, out)
    to = Path(f"{name}-{format}" if file is None else file)
    return export_model(model, to, format=format, name=name, scores=scores, report=Reporter(quiet=quiet))


def _name_and_scores(run: AnyRun, model: Path, out: Path | str) -> tuple[str, dict[str, dict[str, Score]]]:
    """Of a run; a model folder by itself has no scores."""
    if isinstance(run, str | Path) and model == Path(run):
        return model.resolve().name, {}
    opened = opened_run(run, out)
    return opened.name, dict(opened.scores)
