"""The plan of a network: its layers, what it needs, how long it takes, what to change when it does not fit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from opsin.artifact import load
from opsin.config import ModelConfig
from opsin.errors import ConfigError, nearest
from opsin.models.registry import ENTRIES, ModelEntry, ModelSpec, get_entry, resolve_options
from opsin.models.table import LayerTable
from opsin.plan.memory import Memory, memory_of, table_of
from opsin.plan.remedies import Remedy, fit, remedies
from opsin.plan.request import DTYPES, Request
from opsin.plan.timing import Time, calibrate
from opsin.runs import RUNS_FOLDER, Run, list_runs

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a network needs.

    `limit`: bytes of memory that there are. `process_bytes`: what Python and torch take besides. `time` is None where
    it was not asked for. `remedies` are empty where it fits.
    """

    request: Request
    layers: LayerTable
    memory: Memory
    limit: int | None
    process_bytes: int
    time: Time | None
    remedies: Sequence[Remedy]

    @property
    def fits(self) -> bool | None:
        """Whether training fits into `limit`; None without a limit."""
        return None if self.limit is None else self.memory.training_bytes + self.process_bytes <= self.limit

    @property
    def fits_surely(self) -> bool | None:
        """Whether it fits by all that was measured: `training_bytes` is a lower bound where freed memory is kept."""
        return None if self.limit is None else self.memory.most_bytes + self.process_bytes <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values. `flops` count a multiplication and an addition as two, for one image forward."""
        request, layers = self.request, self.layers
        time = None if self.time is None else asdict(self.time) | {"seconds_per_epoch": self.time.seconds_per_epoch}
        return {
            "model": request.spec.name,
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
            "memory": self.memory.to_dict() | {"process_bytes": self.process_bytes, "limit_bytes": self.limit},
            "fits": self.fits,
            "fits_surely": self.fits_surely,
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "time": time,
            "layers": layer_dicts(self),
        }


def layer_dicts(plan: Plan) -> list[dict[str, Any]]:
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


def make_plan(
    request: Request,
    *,
    limit: int | None = None,
    make_fit: bool = False,
    timed: bool = True,
    samples: int | None = None,
) -> Plan:
    """Forecast what a network needs.

    Args:
        request: the network and how it is trained.
        limit: bytes of memory that there are.
        make_fit: change the training, not the network, until it fits.
        timed: also take a few steps, to tell the time.
        samples: images in an epoch.

    Raises:
        ConfigError: there is no such network; or `make_fit` without a limit.
        CheckFailedError: `make_fit`, and nothing helps.
    """
    if make_fit and limit is None:
        raise ConfigError("fit to which memory?", where="--fit", do="give --memory, e.g. --memory 4GB")
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
    )


def request_of(
    model: str,
    config: ModelConfig,
    *,
    shape: tuple[int, int, int] | None = None,
    precision: str | None = None,
    out: Path | str = RUNS_FOLDER,
    **training: Any,
) -> Request:
    """What is to be planned: an architecture by name with the knobs of `config`, or the network of a run.

    Args:
        model: the name, or a run.
        config: knobs; its `model` is not looked at.
        shape: channels, height and width; by default those of the run, or those that sizes are quoted for.
        precision: one of `DTYPES`, or auto, which counts as float32.
        out: folder of runs.
        training: other fields of `Request`; what is None is as in the run, or else as `Request` has it.

    Raises:
        ConfigError: no such network or run, or a setting that it does not have.
    """
    if precision not in (None, "auto", *DTYPES):
        raise ConfigError("no such precision", where="--precision", got=precision, expected=", ".join(DTYPES))
    if model not in ENTRIES and _is_run(model, out):
        if config != ModelConfig(model=config.model):
            raise ConfigError("a trained network has no knobs", where=model, do="plan its architecture by name")
        base = _request_of_run(Run.open(model, out=out))
    else:
        entry = _entry(model, out)
        channels, height, width = entry.default_size
        options = resolve_options(model, config)
        base = Request(spec=ModelSpec(name=model, channels=channels, height=height, width=width, options=options))
    spec = base.spec
    if shape is not None:
        spec = replace(spec, channels=shape[0], height=shape[1], width=shape[2])
    chosen = training | {"precision": "float32" if precision == "auto" else precision}
    return replace(base, spec=spec, **{key: value for key, value in chosen.items() if value is not None})


def _entry(model: str, out: Path | str) -> ModelEntry:
    """The architecture of this name, where it is no run's."""
    try:
        return get_entry(model)
    except ConfigError as error:
        close = nearest(model, [*ENTRIES, *list_runs(out)])
        do = f"did you mean `{close}`?" if close else f"`opsin models` lists networks; runs are looked for in {out}/"
        raise ConfigError("no such network or run", got=model, expected=error.expected, do=do) from error


def parse_bytes(text: str) -> int:
    """Bytes that are written with a unit.

    >>> parse_bytes("4GB"), parse_bytes("512 MiB")
    (4000000000, 536870912)

    Raises:
        ConfigError: it is not written so, or it is nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    value = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if value <= 0:
        raise ConfigError("not an amount of memory", where="--memory", got=text, expected="e.g. 4GB, 512MiB")
    return value


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not say."""
    statistics = Path("/proc/self/statm")
    if not statistics.is_file():
        return 0
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _is_run(name: str, out: Path | str) -> bool:
    return any((folder / name / "config.json").is_file() for folder in (Path(), Path(out)))


def _request_of_run(run: Run) -> Request:
    """The network of a run as it was trained."""
    artifact, settings = load(run.model_folder), run.config.train
    return Request(
        spec=artifact.spec,
        num_outputs=len(artifact.classes),
        batch=settings.batch_size,
        accumulate=settings.accumulate,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        precision="float32" if settings.precision == "auto" else settings.precision,
        checkpoint_activations=settings.checkpoint_activations,
        keep_memory=settings.keep_memory,
    )
