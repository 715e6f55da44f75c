"""Verbs that put a network to use outside of Opsin: export, serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.api.opening import AnyRun, model_folder, opened_run
from opsin.artifact import Artifact, load_proved
from opsin.data.pack import pack, usable_cache
from opsin.devices import pick_device
from opsin.errors import RefusedError
from opsin.exports.exporting import Exported, export_model
from opsin.exports.formats import FormatName
from opsin.exports.int8 import Calibration
from opsin.progress import Reporter
from opsin.runs import RUNS_FOLDER, Run, dataset_of
from opsin.server.limits import Limits
from opsin.server.running import make_service, run
from opsin.types import Score

if TYPE_CHECKING:
    from opsin.server.app import Service


def export(
    run: AnyRun,
    *,
    format: FormatName = "onnx",
    file: Path | str | None = None,
    int8: bool = False,
    root: Path | str | None = None,
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
        int8: also write a quantized ONNX file, its ranges by images of train, and say what that costs on val.
        root: where the run's data lie, for `int8`; by default where they lay.
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
    calibration = _calibration(opened_run(run, out), root) if int8 else None
    report = Reporter(quiet=quiet)
    return export_model(model, to, format=format, name=name, scores=scores, calibration=calibration, report=report)


def _calibration(run: Run, root: Path | str | None) -> Calibration:
    """The train and val splits of a run's data, packed as its network takes them.

    Raises:
        DataError: the data are not there, or have changed.
    """
    size, skip = load_proved(run.model_folder).preprocess.size, run.config.data.skip_unreadable
    data = dataset_of(run, root)
    packed = pack(data, size, cache=usable_cache(), splits=["train", "val"], skip_unreadable=skip)
    return Calibration(train=packed["train"], val=packed["val"])


def _name_and_scores(run: AnyRun, model: Path, out: Path | str) -> tuple[str, dict[str, dict[str, Score]]]:
    """Of a run; a model folder by itself has no scores."""
    if isinstance(run, str | Path) and model == Path(run):
        return model.resolve().name, {}
    opened = opened_run(run, out)
    return opened.name, {split: dict(scores) for split, scores in opened.scores.items()}


def serve(
    *runs: AnyRun,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str = "auto",
    limits: Limits | None = None,
    out: Path | str = RUNS_FOLDER,
    started: Callable[[str], None] = print,
) -> None:
    """Answer HTTP requests with the networks of runs, until Ctrl-C or SIGTERM.

    Args:
        runs: runs or model folders; a request names one by `?model=NAME`, or asks the first.
        host, port: where; port 0 takes a free one.
        token: that requests must carry; needed where other machines reach `host`.
        device: "cpu", "cuda", "mps" or "auto".
        limits: of one request.
        out: where names of runs are looked for.
        started: is told the address when requests are taken.

    Raises:
        ConfigError: the packages of the extra `serve` are missing, or a token.
        RefusedError: no run, two of one name, or the address is taken.
    """
    service = service_of(*runs, host=host, token=token, device=device, limits=limits, out=out)
    run(service, host=host, port=port, started=started)


def service_of(
    *runs: AnyRun,
    host: str = "127.0.0.1",
    token: str | None = None,
    device: str = "auto",
    limits: Limits | None = None,
    out: Path | str = RUNS_FOLDER,
) -> Service:
    """What answers the requests of `serve`: `opsin.server.app.make_app` makes an ASGI application of it."""
    if not runs:
        raise RefusedError("no run to serve", do="name one or more")
    place = pick_device(device)
    models: dict[str, Artifact] = {}
    for one in runs:
        folder = model_folder(one, out)
        name, _ = _name_and_scores(one, folder, out)
        if name in models:
            raise RefusedError("two runs of one name", got=name, do="serve them apart")
        models[name] = load_proved(folder, device=place)
    return make_service(models, host=host, token=token, limits=limits, device=place)
