"""Verbs that deploy a network: export, push, serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.api.opening import AnyRun, model_folder, opened_run
from opsin.artifact import load_proved
from opsin.data.pack import pack, usable_cache
from opsin.devices import pick_device
from opsin.errors import RefusedError
from opsin.exports.exporting import Exported, export_model
from opsin.exports.formats import FormatName
from opsin.exports.int8 import Calibration
from opsin.exports.pushing import Pushed, push_run
from opsin.progress import QUIET, Reporter
from opsin.runs import RUNS_FOLDER, Run, dataset_of
from opsin.server.limits import Limits
from opsin.server.running import make_service, run
from opsin.training.engine.machine import set_allocator
from opsin.types import Score

if TYPE_CHECKING:
    from opsin.server.app import Service


def export(
    run: AnyRun,
    *,
    format: FormatName = "onnx",
    file: Path | str | None = None,
    int8: bool = False,
    page: Path | str | None = None,
    root: Path | str | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = True,
) -> Exported:
    """A run's network as one file for other programs: uint8 images in, predictions out.

    The file contains preprocessing and decoding; only the resize to its input size is left to the caller, and
    `predict.py` and a page for browsers beside an ONNX file do it as Opsin does. The network's golden images are
    replayed on the file, which is deleted if its outputs differ.

    Args:
        run: a run, or a model folder.
        format: "onnx" or "torch" (a `torch.export` program).
        file: a new folder, or a file name that ends in .onnx or .pt2; by default the folder NAME-FORMAT.
        int8: also write a quantized ONNX file, calibrated on images of train, and report its cost on val.
        page: the package onnxruntime-web (`npm pack` or unpacked), whose files are copied to the page beside an
            ONNX file.
        root: folder of the run's data, for `int8`; by default the one it was trained from.
        out: folder in which names of runs are looked up.
        quiet: no messages.

    Raises:
        ConfigError: unknown format, or its packages are not installed.
        RefusedError: the network cannot be exported.
        InputError, ArchiveError: `page` is not that package.
        CheckFailedError: the outputs of the file differ from those of the network.
        WriteError: the folder exists, or cannot be written.
    """
    model = model_folder(run, out)
    name, scores = _name_and_scores(run, model, out)
    to = Path(f"{name}-{format}" if file is None else file)
    calibration = _calibration(opened_run(run, out), root) if int8 else None
    report = Reporter(quiet=quiet)
    return export_model(
        model,
        to,
        format=format,
        name=name,
        scores=scores,
        calibration=calibration,
        page=None if page is None else Path(page),
        report=report,
    )


def _calibration(run: Run, root: Path | str | None) -> Calibration:
    """The train and val splits of a run's data, packed at its network's input size.

    Raises:
        DataError: the data are missing, or have changed.
    """
    size, skip = load_proved(run.model_folder).preprocess.size, run.config.data.skip_unreadable
    data = dataset_of(run, root)
    packed = pack(data, size, cache=usable_cache(), splits=["train", "val"], skip_unreadable=skip)
    return Calibration(train=packed["train"], val=packed["val"])


def _name_and_scores(run: AnyRun, model: Path, out: Path | str) -> tuple[str, dict[str, dict[str, Score]]]:
    """Name and scores of a run; a model folder alone has no scores."""
    if isinstance(run, str | Path) and model == Path(run):
        return model.resolve().name, {}
    opened = opened_run(run, out)
    return opened.name, {split: dict(scores) for split, scores in opened.scores.items()}


def push(
    run: AnyRun,
    to: str,
    *,
    export: Path | str | None = None,
    public: bool = False,
    dry_run: Path | str | None = None,
    out: Path | str = RUNS_FOLDER,
) -> Pushed:
    """Push a run to the Hugging Face hub, with a model card made from its scores, data and summary.

    Args:
        run: a run.
        to: `hf://owner/name`.
        export: folder of `export`, to be pushed too.
        public: anybody may see it; otherwise the owner alone. The network's golden images are images of its data.
        dry_run: a new folder, for what would be pushed; nothing is sent.
        out: folder in which names of runs are looked up.

    Raises:
        ConfigError: no such name can be, or huggingface_hub is missing.
        InputError: `export` is no folder of an export.
        RefusedError: the hub refuses, or cannot be reached.
        WriteError: the folder exists, or cannot be written.
    """
    return push_run(
        opened_run(run, out),
        to,
        export=None if export is None else Path(export),
        public=public,
        dry_run=None if dry_run is None else Path(dry_run),
    )


def serve(
    *runs: AnyRun,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str = "auto",
    limits: Limits | None = None,
    out: Path | str = RUNS_FOLDER,
    started: Callable[[str], None] = print,
    quiet: bool = False,
) -> None:
    """Answer HTTP requests with the networks of runs, until Ctrl-C or SIGTERM.

    A run that is trained again is loaded and takes over; requests in progress keep the network they began with.

    Args:
        runs: runs or model folders; a request selects one by `?model=NAME`; by default the first.
        host, port: address to listen on; port 0 picks a free one.
        token: bearer token that requests must carry; required where other machines can reach `host`.
        device: "cpu", "cuda", "mps" or "auto".
        limits: limits of one request.
        out: folder in which names of runs are looked up.
        started: called with the address once requests are accepted.
        quiet: do not say that a network was replaced, or could not be.

    Raises:
        ConfigError: the packages of the extra `serve`, or a token, are missing.
        RefusedError: no run, two runs of the same name, or the address is in use.
    """
    report = Reporter(quiet=quiet)
    service = service_of(*runs, host=host, token=token, device=device, limits=limits, out=out, report=report)
    run(service, host=host, port=port, started=started)


def service_of(
    *runs: AnyRun,
    host: str = "127.0.0.1",
    token: str | None = None,
    device: str = "auto",
    limits: Limits | None = None,
    out: Path | str = RUNS_FOLDER,
    report: Reporter = QUIET,
) -> Service:
    """The service behind `serve`; `opsin.server.app.make_app` makes an ASGI application of it."""
    if not runs:
        raise RefusedError("no run to serve was named", do="name one or more")
    place = pick_device(device)
    folders: dict[str, Path] = {}
    for one in runs:
        folder = model_folder(one, out)
        name, _ = _name_and_scores(one, folder, out)
        if name in folders:
            raise RefusedError("two runs have the same name", got=name, do="serve them in two processes, or rename one")
        folders[name] = folder
    set_allocator(keep_memory=True)  # else each batch maps its activations anew, which takes a third of its time
    return make_service(folders, host=host, token=token, limits=limits, device=place, report=report)
