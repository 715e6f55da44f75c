"""What `opsin train DATA` would train, as `opsin plan` takes it: nothing is packed, built or run.

A run that is about to start writes the same forecast into its log, for its report to show beside what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opsin.batches.preprocess import Preprocess
from opsin.config import RunConfig
from opsin.data.samples import Dataset
from opsin.planning.forecast import resident_bytes
from opsin.planning.memory import memory_of
from opsin.planning.request import DTYPES, Request, task_settings, trained_parts
from opsin.progress import duration
from opsin.training.engine.precision import Choice
from opsin.training.setup.larger import larger_policy
from opsin.training.setup.origin import Origin
from opsin.training.setup.prepared import Prepared
from opsin.training.setup.preparing import network_spec
from opsin.training.setup.resolving import Resolved, resolve_settings, size_policy
from opsin.types import JsonDict, SizePolicy
from opsin.units import bytes_text


def request_of_data(
    data: Dataset | str | Path | Mapping[str, Any], *, root: Path | str | None = None, **settings: Any
) -> tuple[Request, int]:
    """The network that training on `data` would choose, as it would be trained, and the images in an epoch.

    Args:
        data: as for `opsin.train`.
        root: folder of the catalogue's data sets.
        settings: as for `opsin.train`.

    Raises:
        RefusedError: settings or data are invalid.
    """
    resolved = resolve_settings(data, root=root, recipe=None, settings=settings)
    return request_of(resolved), len(resolved.dataset.splits["train"])


def request_of(resolved: Resolved) -> Request:
    """The network of resolved settings, as it would be trained."""
    dataset, config, origin = resolved.dataset, resolved.config, resolved.origin
    train, larger = config.train, larger_policy(dataset, config)
    return Request(
        spec=network_spec(dataset, config, _contract(dataset, config, origin), origin),
        task=task_settings(dataset.task, train),
        num_outputs=len(dataset.classes),
        bits=config.data.bits,
        larger=None if larger is None else (larger.height, larger.width),
        batch=min(train.batch_size, len(dataset.splits["train"])),
        accumulate=train.accumulate,
        optimizer=train.optimizer,
        momentum=train.momentum,
        precision=train.precision if train.precision in DTYPES else "float32",
        checkpoint_activations=train.checkpoint_activations,
        keep_memory=train.keep_memory,
        **trained_parts(config.finetune, task=dataset.task, epochs=train.epochs, pretrained=origin is not None),
    )


def forecast_of(prepared: Prepared, choice: Choice) -> JsonDict:
    """The most memory that a run on a CPU will hold (bytes, at least and at most), and its seconds; with a message.

    Seconds are those of the plan for photos, or else of training alone, by the timing that chose the precision; None
    where neither is there. Empty for parts of the user's own, which cannot be planned, and for other devices.
    """
    if prepared.own or prepared.device.type != "cpu":
        return {}
    resolved = Resolved(dataset=prepared.dataset, config=prepared.config, origin=prepared.origin)
    request = replace(request_of(resolved), precision=choice.precision.dtype)
    memory, process = memory_of(request), resident_bytes()
    low, high = memory.training_bytes + process, memory.most_bytes + process
    seconds = _forecast_seconds(prepared, choice)
    took = "" if seconds is None else f"; about {duration(seconds)} if steps are as fast as when they were timed"
    message = f"forecast: {bytes_text(low)} to {bytes_text(high)} of memory at the peak{took}"
    return {"memory_bytes": [low, high], "seconds": seconds, "message": message}


def _forecast_seconds(prepared: Prepared, choice: Choice) -> float | None:
    train = prepared.config.train
    found: float | None = None
    plan = {} if prepared.plan is None else prepared.plan["plan"]
    if plan.get("epochs") == train.epochs:  # not where other epochs were asked for
        found = float(plan["seconds"])
    else:
        chosen = choice.precision
        for timing in choice.timings:
            same = (timing["precision"], timing["channels_last"]) == (chosen.dtype, chosen.channels_last)
            if same and timing["images_per_second"]:
                images = train.epochs * len(prepared.splits["train"].images)
                found = images / float(timing["images_per_second"])
    return found if found is None or train.minutes is None else min(found, 60 * train.minutes)


def _contract(dataset: Dataset, config: RunConfig, origin: Origin | None) -> Preprocess:
    """Size and channels of the network's input; its statistics are not measured."""
    size = size_policy(dataset, config)
    if size is None:
        assert dataset.size is not None  # `size_policy` refuses it otherwise
        size = SizePolicy(height=dataset.size[0], width=dataset.size[1], fit=config.data.fit)
    if origin is not None:
        return replace(origin.preprocess, size=size)
    channels = dataset.channels
    return Preprocess(
        size=size,
        color="gray" if channels == 1 else "rgb",
        range=(0.0, 1.0),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        learned=config.data.normalize == "learned",
    )
