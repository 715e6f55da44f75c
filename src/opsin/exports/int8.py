"""Static quantization: weights and activations of convolutions and dense layers as 8-bit integers, ranges from train.

    images of train ── ranges of activations ──> model-int8.onnx ── both files on val ──> the change of the score

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference"; ONNX Runtime's quantizer, with a scale for each channel of a weight.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Arrays
from opsin.data.samples import Samples
from opsin.exports.program import INPUT
from opsin.exports.proof import Answer
from opsin.exports.timing import Speed
from opsin.ops.intervals import Z_95
from opsin.tasks import get_task
from opsin.tasks.targets import Targets
from opsin.types import JsonDict, JsonMapping, Score, TaskName

FILE = "model-int8.onnx"
NUM_CALIBRATION = 256
"""Images of train from which the ranges of activations are taken, spread evenly over it."""
BATCH_SIZE = 32
LAYERS = ["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Data for calibration and for scoring: packed samples of the run's own data."""

    train: Samples
    val: Samples


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An int8 file beside the float one.

    `main_score`: score compared on val; `before`, `after`: its values. `change`: after minus before, with
    a paired 95 % interval if each image is right or wrong, else without.
    """

    file: Path
    size_bytes: int
    speed: Speed
    main_score: str
    before: Score
    after: Score
    change: Score
    num_val: int

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        plain = asdict(self)
        return plain | {"file": str(self.file)}


def quantize(model: Path, to: Path, images: NDArray[np.uint8]) -> None:
    """Write the int8 form of an ONNX file.

    Args:
        model: the float file.
        to: the new file; it keeps the metadata.
        images: uint8 [N, C, H, W] of the training data.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Yields batches."""

        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.uint8]] = (
                images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)
            )

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        # weights of 7 bits: processors without VNNI add pairs of products in 16 bits, where those of 8 bits overflow
        options = {"per_channel": True, "reduce_range": True, "op_types_to_quantize": LAYERS}
        quantize_static(str(prepared), str(to), Reader(), **options)
    made, entries = onnx.load(str(to)), onnx.load(str(model)).metadata_props
    onnx.helper.set_model_props(made, {entry.key: entry.value for entry in entries})
    onnx.save(made, str(to))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without the quantizer's advice to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def calibration_images(train: Samples) -> NDArray[np.uint8]:
    """Images of train, spread evenly over it: uint8 [n, C, H, W]."""
    rows = np.unique(np.linspace(0, len(train) - 1, NUM_CALIBRATION).astype(np.int64))
    return np.stack([np.asarray(train.images[i]) for i in rows])


def change_on_val(
    task_name: TaskName, classes: tuple[str, ...], val: Samples, before: Answer, after: Answer
) -> JsonMapping:
    """The main score on val of two files, and how it changes: fields of `Quantized`."""
    task, targets = get_task(task_name), Targets.of(val)
    first, second = answers_of(before, val), answers_of(after, val)
    scores = [task.scores(found, targets, classes)[task.main_score] for found in (first, second)]
    change = Score(scores[1].value - scores[0].value)
    if targets.labels is not None and set(first) == {"probabilities"}:
        right = [(found["probabilities"].argmax(1) == targets.labels).astype(float) for found in (first, second)]
        change = paired_change(right[1] - right[0])
    return {
        "main_score": task.main_score,
        "before": scores[0],
        "after": scores[1],
        "change": change,
        "num_val": len(val),
    }


def paired_change(differences: NDArray[np.float64]) -> Score:
    """The mean of differences of the same images, each -1, 0 or 1, with a 95 % interval.

    The interval has positive width even if no image changed: 180 such images do not show that none ever does.

    >>> print(paired_change(np.zeros(180)))
    0.0000 [-0.0108, 0.0108]

    Source: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions": half an
    image more in each of the four cells.
    """
    lost, won = ((differences == side).sum() + 0.5 for side in (-1, 1))
    total = len(differences) + 2
    middle = (won - lost) / total
    half = Z_95 * np.sqrt(won + lost - (won - lost) ** 2 / total) / total
    return Score(float(differences.mean()), float(middle - half), float(middle + half))


def answers_of(answer: Answer, samples: Samples) -> Arrays:
    """Predictions of a file for all samples, in their order."""
    parts = [
        answer(np.array(samples.images[start : start + BATCH_SIZE])) for start in range(0, len(samples), BATCH_SIZE)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
