"""The two formats: writing a graph to a file, and running such a file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from opsin.arrays import Arrays
from opsin.errors import ConfigError
from opsin.exports.program import INPUT, Traced
from opsin.exports.proof import Answer

if TYPE_CHECKING:
    import onnxruntime

FormatName = Literal["onnx", "torch"]
FILES: dict[FormatName, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
"""Name of the file in the folder of an export."""
CONTRACT = "opsin.json"
"""Name of the contract inside a torch.export file; in ONNX each of its fields is an entry of the metadata."""


def check_packages(name: FormatName) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        ConfigError: they are not.
    """
    if name == "torch":
        return
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "ONNX needs packages that are not installed", got=error.name, do="pip install 'opsin[export]'"
        ) from error


def write(name: FormatName, traced: Traced, contract: Mapping[str, object], path: Path) -> None:
    """Write a graph with its contract as a file."""
    (write_onnx if name == "onnx" else write_torch)(traced, contract, path)


def write_torch(traced: Traced, contract: Mapping[str, object], path: Path) -> None:
    """A torch.export program, with the contract as `opsin.json` inside.

    It holds no pickle: the example input, the only part that torch pickles, is left out.
    """
    traced.program._example_inputs = None
    torch.export.save(traced.program, path, extra_files={CONTRACT: json.dumps(contract)})


def read_torch(path: Path, extra_files: dict[str, str] | None = None) -> torch.export.ExportedProgram:
    """The program in a torch.export file; the texts of `extra_files` are filled in."""
    with warnings.catch_warnings():  # torch 2.9 reads tensors over bytes that it must not write, and warns of itself
        warnings.filterwarnings("ignore", message="The given buffer is not writable", category=UserWarning)
        return torch.export.load(path, extra_files=extra_files)


def write_onnx(traced: Traced, contract: Mapping[str, object], path: Path) -> None:
    """An ONNX file with the contract in its metadata: strings unchanged, other values as JSON."""
    with _silent():
        made = torch.onnx.export(
            traced.program,
            (traced.example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(traced.outputs),
        )
    assert made is not None  # without a path it is always returned
    made.model.graph.name = "opsin"
    made.model.producer_name = "opsin"
    made.model.metadata_props.update(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in contract.items()}
    )
    made.save(str(path), external_data=False)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Context without the exporter's progress lines and internal warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def onnx_session(path: Path, *, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU, with torch's number of threads by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answering(name: FormatName, path: Path) -> Answer:
    """A function that runs an exported file.

    Args:
        name: its format.
        path: the file; read as a whole.
    """
    if name == "onnx":
        session = onnx_session(path)
        outputs = [output.name for output in session.get_outputs()]
        return lambda images: dict(zip(outputs, session.run(outputs, {INPUT: images}), strict=True))
    network = read_torch(path).module()

    def answer(images: np.ndarray) -> Arrays:
        with torch.inference_mode():
            return {key: value.numpy() for key, value in network(torch.from_numpy(images)).items()}

    return answer
