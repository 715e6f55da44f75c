"""The plan of a network: its layers, memory, time, and remedies if it does not fit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

from opsin.artifact import load
from opsin.config import FinetuneConfig, ModelConfig, TrainConfig
from opsin.errors import ConfigError, nearest
from opsin.models.registry import ENTRIES, ModelEntry, ModelSpec, get_entry, resolve_options
from opsin.models.table import LayerTable
from opsin.planning.memory import Memory, memory_of, table_of
from opsin.planning.remedies import Remedy, fit, remedies
from opsin.planning.request import DTYPES, Request, task_for, task_settings, trained_parts
from opsin.planning.timing import Time, calibrate
from opsin.runs import RUNS_FOLDER, Run, list_runs
from opsin.tasks import get_task
from opsin.types import JsonDict

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}

MOST_ROWS = 30
"""Largest number of layers shown singly; with more, sections are shown."""
SUMMED = ("parameters", "trainable", "multiply_adds", "flops", "saved_bytes")
"""Values summed over the layers of a section."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Memory and time of a network.

    `limit`: available memory in bytes. `process_bytes`: memory of Python and torch. `time` is None if
    not requested. `remedies` are empty if it fits. `measured_bytes`: peak memory of the planned run's
    process; None where no run is planned.
    """

    request: Request
    layers: LayerTable
    memory: Memory
    limit: int | None
    process_bytes: int
    time: Time | None
    remedies: Sequence[Remedy]
    measured_bytes: int | None = None

    @property
    def process_forecast(self) -> tuple[int, int]:
        """Memory of the training process, Python and torch included: lower bound, and the largest measured."""
        return self.memory.training_bytes + self.process_bytes, self.memory.most_bytes + self.process_bytes

    @property
    def training_multiply_adds(self) -> int:
        """Work of a training step on one image: the forward pass, and the gradients of what is trained."""
        rows = self.layers.rows
        if self.request.cached:
            rows = tuple(row for row in rows if row.name.startswith("heads."))
        forward = sum(row.multiply_adds for row in rows)
        again = forward if self.request.checkpoint_activations else 0
        work, trains_below = forward + again, False
        for row in rows:  # gradient of the weights, and of the input if something below is trained
            work += row.multiply_adds * ((row.trainable > 0) + trains_below)
            trains_below = trains_below or row.trainable > 0
        return work

    @property
    def fits(self) -> bool | None:
        """Whether training fits into `limit`; None without a limit."""
        return None if self.limit is None else self.memory.training_bytes + self.process_bytes <= self.limit

    @property
    def fits_surely(self) -> bool | None:
        """Whether it fits by all measurements: `training_bytes` is a lower bound if freed memory is kept."""
        return None if self.limit is None else self.memory.most_bytes + self.process_bytes <= self.limit

    def to_dict(self) -> JsonDict:
        """As plain JSON values. `flops` count a multiplication and an addition as two, for one image forward."""
        request, layers = self.request, self.layers
        time = None if self.time is None else asdict(self.time) | {"seconds_per_epoch": self.time.seconds_per_epoch}
        return {
            "model": request.spec.name,
            "task": request.task.name,
            "outputs": request.num_outputs,
            "options": dict(request.spec.options),
            "input": list(layers.input_shape),
            "batch": request.batch,
            "accumulate": request.accumulate,
            "optimizer": request.optimizer,
            "precision": request.precision,
            "checkpoint_activations": request.checkpoint_activations,
            "keep_memory": request.keep_memory,
            "parameters": layers.parameters,
            "trainable": layers.trainable,
            "multiply_adds": layers.multiply_adds,
            "flops": 2 * layers.multiply_adds,
            "training_flops": 2 * self.training_multiply_adds,
            "trained": trained_in_words(request),
            "memory": self.memory.to_dict()
            | {
                "process_bytes": self.process_bytes,
                "limit_bytes": self.limit,
                "process_forecast_bytes": list(self.process_forecast),
                "measured_bytes": self.measured_bytes,
            },
            "fits": self.fits,
            "fits_surely": self.fits_surely,
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "time": time,
            "layers": layer_dicts(self),
        }


def layer_dicts(plan: Plan) -> list[JsonDict]:
    """Each layer with its shape, parameters and work; bytes of its output for one image, and saved for one part."""
    return [
        asdict(row)
        | {
            "output_shape": list(row.output_shape),
            "flops": 2 * row.multiply_adds,
            "output_bytes": 4 * prod(row.output_shape),
            "saved_bytes": plan.memory.saved.get(row.name, 0),
        }
        for row in plan.layers.rows
    ]


def section_dicts(rows: Sequence[JsonDict]) -> list[JsonDict]:
    """Rows of `layer_dicts`, those of one section summed up where there are more than `MOST_ROWS`.

    A section is the layers that share a name prefix, as long as leaves few enough sections; its output is that of its
    last layer.
    """
    found = list(rows)
    for depth in range(max((row["name"].count(".") for row in rows), default=0), 0, -1):
        if len(found) <= MOST_ROWS:
            break
        groups = groupby(rows, key=lambda row: ".".join(row["name"].split(".")[:depth]))
        found = [_section(name, list(group)) for name, group in groups]
    return found


def _section(name: str, rows: list[JsonDict]) -> JsonDict:
    if len(rows) == 1:
        return rows[0]
    sums = {key: sum(row[key] for row in rows) for key in SUMMED}
    return {**rows[-1], **sums, "name": name, "kind": f"{len(rows)} layers"}


def make_plan(
    request: Request,
    *,
    limit: int | None = None,
    make_fit: bool = False,
    timed: bool = True,
    samples: int | None = None,
    measured_bytes: int | None = None,
) -> Plan:
    """Forecast memory and time of a network.

    Args:
        request: the network and its training settings.
        limit: available memory in bytes.
        make_fit: change the training, not the network, until it fits.
        timed: also time a few steps.
        samples: images per epoch.
        measured_bytes: peak memory of the planned run's process, if a run is planned.

    Raises:
        ConfigError: there is no such network; or `make_fit` without a limit.
        CheckFailedError: `make_fit`, but no change suffices.
    """
    if make_fit and limit is None:
        raise ConfigError("`--fit` needs a memory limit", where="--fit", do="give --memory, e.g. --memory 4GB")
    process = resident_bytes()
    left = None if limit is None else max(0, limit - process)
    if make_fit and left is not None:
        request = fit(request, left)
    layers = table_of(request)
    memory = memory_of(request, layers)
    fits = left is None or memory.training_bytes <= left
    found = [] if fits else remedies(request, training_bytes=memory.training_bytes, limit=left)
    time = calibrate(request, layers, samples=samples) if timed else None
    return Plan(
        request=request,
        layers=layers,
        memory=memory,
        limit=limit,
        process_bytes=process,
        time=time,
        remedies=found,
        measured_bytes=measured_bytes,
    )


def trained_in_words(request: Request) -> str:
    """Description of the trained part."""
    if request.cached:
        return "the head, on features computed once"
    if request.sections is None:
        return "all"
    return f"the head and the upper {request.sections} sections" if request.sections else "the head"


def request_of(
    model: str,
    config: ModelConfig,
    *,
    shape: tuple[int, int, int] | None = None,
    task: str | None = None,
    finetune: FinetuneConfig | None = None,
    precision: str | None = None,
    out: Path | str = RUNS_FOLDER,
    **training: Any,
) -> Request:
    """The request for an architecture by name with the options of `config`, or for the network of a run.

    Args:
        model: the name, or a run.
        config: options; its `model` is ignored.
        shape: channels, height and width; by default those of the run or the architecture.
        task: task of the network; by default that of the run, segmentation for networks of masks, or
            classification.
        finetune: what is trained of a pretrained network; None for a new one.
        precision: one of `DTYPES`, or auto, which counts as float32.
        out: folder of runs.
        training: other fields of `Request`; None means that of the run, or the default of `Request`.

    Raises:
        ConfigError: no such network or run, or an option it does not have.
    """
    if precision not in (None, "auto", *DTYPES):
        raise ConfigError("no such precision", where="--precision", got=precision, expected=", ".join(DTYPES))
    if (run := find_run(model, out)) is not None:
        if config != ModelConfig(model=config.model) or finetune is not None:
            do = "plan its architecture by name"
            raise ConfigError("options do not apply to a run, which is planned as it was trained", where=model, do=do)
        base = _request_of_run(run)
        if task not in (None, base.task.name):
            raise ConfigError("this run has another task", where="--task", got=task, expected=base.task.name)
    else:
        base = _request_of_name(model, config, shape, task, finetune, out)
    chosen = training | {"precision": "float32" if precision == "auto" else precision}
    return changed(base, shape=shape, **chosen)


def changed(base: Request, *, shape: tuple[int, int, int] | None = None, **training: Any) -> Request:
    """The request with another image shape and other fields; None leaves them unchanged."""
    spec = base.spec
    if shape is not None:
        spec = replace(spec, channels=shape[0], height=shape[1], width=shape[2])
    return replace(base, spec=spec, **{key: value for key, value in training.items() if value is not None})


def _request_of_name(
    model: str,
    config: ModelConfig,
    shape: tuple[int, int, int] | None,
    task: str | None,
    finetune: FinetuneConfig | None,
    out: Path | str,
) -> Request:
    entry = _entry(model, out)
    task = task_for(entry.name, task)
    channels, height, width = shape or entry.default_size
    options = resolve_options(entry.name, config, decoder=get_task(task).pixelwise)
    settings = TrainConfig()
    parts: dict[str, Any] = {}
    if finetune is not None:
        parts = trained_parts(finetune, task=task, epochs=settings.epochs, pretrained=True)
    return Request(
        spec=ModelSpec(name=entry.name, channels=channels, height=height, width=width, options=options),
        task=task_settings(task, settings),
        **parts,
    )


def _entry(model: str, out: Path | str) -> ModelEntry:
    """The architecture of this name, if it is not a run's."""
    try:
        return get_entry(model)
    except ConfigError as error:
        close = nearest(model, [*ENTRIES, *list_runs(out)])
        do = f"did you mean `{close}`?" if close else f"`opsin models` lists networks; runs are looked up in {out}/"
        raise ConfigError("no such network or run", got=model, expected=error.expected, do=do) from error


def parse_bytes(text: str) -> int:
    """Parse bytes with a unit.

    >>> parse_bytes("4GB"), parse_bytes("512 MiB")
    (4000000000, 536870912)

    Raises:
        ConfigError: invalid form, or 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    value = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if value <= 0:
        raise ConfigError("invalid amount of memory", where="--memory", got=text, expected="e.g. 4GB, 512MiB")
    return value


def resident_bytes() -> int:
    """Resident memory of this process; 0 if unknown."""
    statistics = Path("/proc/self/statm")
    if not statistics.is_file():
        return 0
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def find_run(name: str, out: Path | str = RUNS_FOLDER) -> Run | None:
    """The run `name`; None if it is an architecture, or there is no such run."""
    is_run = any((folder / name / "config.json").is_file() for folder in (Path(), Path(out)))
    return Run.open(name, out=out) if is_run and name not in ENTRIES else None


def measured_peak(run: Run) -> int | None:
    """Peak memory of a run's process, if recorded."""
    found = [run.summary.peak_memory_bytes, *(epoch.peak_memory_bytes for epoch in run.log.epochs)]
    return max((value for value in found if value is not None), default=None)


def training_images(run: Run) -> int | None:
    """Images per epoch of a run, if recorded."""
    train = run.data.splits.get("train")
    return train.n or None if train else None


def _request_of_run(run: Run) -> Request:
    """The network of a run as it was trained."""
    artifact, settings = load(run.model_folder), run.config.train
    pretrained = run.config.finetune.weights is not None
    return Request(
        spec=artifact.spec,
        task=task_settings(artifact.task, settings),
        num_outputs=len(artifact.classes),
        batch=settings.batch_size,
        accumulate=settings.accumulate,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        precision=_precision_of(run),
        checkpoint_activations=settings.checkpoint_activations,
        keep_memory=settings.keep_memory,
        **trained_parts(run.config.finetune, task=artifact.task, epochs=settings.epochs, pretrained=pretrained),
    )


def _precision_of(run: Run) -> str:
    """The precision that a run was trained in: as recorded, or from its settings."""
    asked = run.config.train.precision
    found = run.environment.precision or asked
    return found if found in DTYPES else "float32"
