"""Export: trace, write, replay the golden images, time; the folder is created only after the check."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from opsin.artifact import Artifact, load_proved
from opsin.errors import ConfigError, NameTakenError, RefusedError
from opsin.exports import formats, int8
from opsin.exports.contract import contract_of
from opsin.exports.formats import FILES, FormatName
from opsin.exports.int8 import Calibration, Quantized
from opsin.exports.program import Golden, read_golden, trace
from opsin.exports.proof import prove
from opsin.exports.timing import SECONDS, Speed, measure
from opsin.exports.web_page import runtime_files, write_page
from opsin.inference.predictor import Predictor
from opsin.io.files import atomic_folder, write_atomically, write_json
from opsin.io.gate import printable
from opsin.progress import QUIET, Reporter
from opsin.types import JsonDict, JsonMapping, Score

SCRIPT = "predict.py"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported network.

    `file`: the network. `folder`: folder with the script and the contract; None where only the file was
    requested. `differences`: from the golden outputs, by prediction. `speed`, `pytorch`: of the file and of the
    network.
    """

    file: Path
    folder: Path | None
    format: FormatName
    size_bytes: int
    differences: Mapping[str, float]
    speed: Speed
    pytorch: Speed
    threads: int
    int8: Quantized | None = None

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        return {
            "file": str(self.file),
            "folder": None if self.folder is None else str(self.folder),
            "format": self.format,
            "size_bytes": self.size_bytes,
            "differences": dict(self.differences),
            "speed": self.speed.to_json(),
            "pytorch": self.pytorch.to_json(),
            "threads": self.threads,
            "int8": None if self.int8 is None else self.int8.to_json(),
        }


def export_model(
    model: Path,
    to: Path,
    *,
    format: FormatName = "onnx",
    name: str = "",
    scores: Mapping[str, Mapping[str, Score]] | None = None,
    calibration: Calibration | None = None,
    page: Path | None = None,
    seconds: float = SECONDS,
    report: Reporter = QUIET,
) -> Exported:
    """A model folder as one file for other programs.

    Args:
        model: the artefact.
        to: a new folder for the file, its contract and, for ONNX, a script and a page for browsers; or the file
            alone: a name with the format's suffix. A file of this name is replaced, a folder is not.
        format: "onnx" or "torch" (a `torch.export` program).
        name: name of the run, for the contract.
        scores: scores by split, for the contract.
        calibration: packed data, to write a quantized file too (ONNX in a folder).
        page: the package onnxruntime-web, for the page (ONNX in a folder).
        seconds: duration of each timing.
        report: receives progress messages.

    Raises:
        ConfigError: unknown format, or its packages are not installed.
        RefusedError: the network cannot be exported.
        InputError, ArchiveError: `page` is not that package.
        CheckFailedError: the file gives outputs different from the network's; it is deleted.
        WriteError: the folder exists, or cannot be written.
    """
    if format not in FILES:
        raise ConfigError("no such format", got=format, expected=", ".join(FILES))
    formats.check_packages(format)
    alone = to.suffix == Path(FILES[format]).suffix
    for option, wanted in (("--int8", calibration), ("--page", page)):
        if wanted is not None and (alone or format != "onnx"):
            do = f"leave {option} out, or name a folder"
            raise ConfigError(f"{option} needs ONNX in a folder", got=f"{format}, {to.name}", do=do)
    if to.exists() and not alone:
        raise NameTakenError("the folder exists already", where=printable(to), do="remove it, or name another: --out")
    if page is not None:
        runtime_files(page)  # refused before anything is written
    artifact = load_proved(model)
    _check_bits(artifact, format, to, alone=alone)
    report.message(f"exporting {artifact.spec.name} as {format}")
    about = {"name": name or model.parent.name, "scores": scores or {}}
    if alone:
        with tempfile.TemporaryDirectory() as scratch:
            made = _make(artifact, read_golden(model, artifact), Path(scratch), format, about, to, seconds)
            write_atomically(to, (Path(scratch) / FILES[format]).read_bytes())
        return replace(made, file=to, folder=None)
    with atomic_folder(to) as partial:
        made = _make(artifact, read_golden(model, artifact), partial, format, about, to, seconds)
        if format == "onnx":
            write_page(partial, page)
        if calibration is None:
            return made
        report.message("quantizing")
        return replace(made, int8=_quantized(artifact, partial, calibration, to, seconds))


def _check_bits(artifact: Artifact, format: FormatName, to: Path, *, alone: bool) -> None:
    """Refuse what beside an ONNX file would read 8 bits a channel for a network of 16.

    Raises:
        RefusedError: predict.py and the page were to be written.
    """
    if artifact.preprocess.size.bits > 8 and format == "onnx" and not alone:
        raise RefusedError(
            "this network sees 16 bits a channel, and predict.py and the page beside an ONNX file read 8",
            where=printable(to),
            got="ONNX in a folder",
            expected="a file alone, which takes float32: 16 bits divided by 257",
            do=f"name a file: --out {to.name}.onnx; or train with --bits 8",
        )


def _quantized(artifact: Artifact, folder: Path, data: Calibration, to: Path, seconds: float) -> Quantized:
    """The int8 file beside the float one in `folder`, which will be renamed to `to`."""
    before, file = folder / FILES["onnx"], folder / int8.FILE
    int8.quantize(before, file, int8.calibration_images(data.train))
    answers = [formats.answering("onnx", path) for path in (before, file)]
    change = int8.change_on_val(artifact.task, artifact.classes, data.val, *answers)
    (speed,) = measure(answers[1], image=np.array(data.val.images[:1]), seconds=seconds)
    return Quantized(file=to / file.name, size_bytes=file.stat().st_size, speed=speed, **change)


def _make(
    artifact: Artifact,
    golden: Golden,
    folder: Path,
    format: FormatName,
    about: JsonMapping,
    to: Path,
    seconds: float,
) -> Exported:
    """Fill `folder`, which will be renamed to `to`."""
    traced, file = trace(artifact), folder / FILES[format]
    contract = contract_of(artifact, traced.outputs, **about)
    formats.write(format, traced, contract, file)
    answer = formats.answering(format, file)
    found = prove(answer, golden, where=to)
    write_json(folder / "contract.json", contract)
    if format == "onnx":
        write_atomically(folder / SCRIPT, script().encode())
    predictor = Predictor(artifact)
    speed, pytorch = measure(
        answer,
        lambda images: predictor.run(torch.from_numpy(images)),
        image=golden.images[:1].numpy(),
        seconds=seconds,
    )
    return Exported(
        file=to / file.name,
        folder=to,
        format=format,
        size_bytes=file.stat().st_size,
        differences=found,
        speed=speed,
        pytorch=pytorch,
        threads=torch.get_num_threads(),
    )


def script() -> str:
    """The script beside an ONNX file: from photos to predictions with only numpy, Pillow and onnxruntime.

    Its resize is bit for bit that of `ops.resize`.
    """
    return resources.files("opsin.exports").joinpath("predict.py.txt").read_text(encoding="utf-8")
