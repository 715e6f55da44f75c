"""What `opsin train` would do, without doing it: data, network, settings with their origins, time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opsin import config as settings_of
from opsin.config import RunConfig
from opsin.data.samples import Dataset
from opsin.planning.forecast import Plan, make_plan
from opsin.progress import QUIET, Reporter
from opsin.runs import RUNS_FOLDER, free_path, next_name
from opsin.training.engine.budget import FINISH_S, Budget
from opsin.training.engine.own_parts import split_parts
from opsin.training.planning import request_of
from opsin.training.setup.origin import absolute
from opsin.training.setup.preparing import check_before_packing
from opsin.training.setup.resolving import Resolved, resolve_settings
from opsin.training.setup.transfer import START_S, decode_seconds
from opsin.types import JsonDict


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a training would do.

    `path`: of the run that it would write. `origins`: where each setting comes from that is not at its plain default.
    `network`: its layers, memory and the time of a step. `seconds`: on the wall, from start to report, by what steps
    and images cost on this machine now.
    """

    path: Path
    dataset: Dataset
    config: RunConfig
    origins: Mapping[str, str]
    network: Plan
    seconds: float

    def settings(self) -> dict[str, dict[str, Any]]:
        """Every setting: its value, and where it comes from."""
        values = settings_of.flat(self.config)
        return {key: {"value": value, "from": self.origins.get(key, "default")} for key, value in values.items()}

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        data, layers = self.dataset, self.network.layers
        low, high = self.network.process_forecast
        return {
            "dry_run": True,
            "run": str(self.path),
            "task": data.task,
            "data": {
                "name": data.name,
                "layout": data.layout,
                "classes": list(data.classes),
                "splits": {name: len(source) for name, source in data.splits.items()},
                "notes": list(data.notes),
            },
            "network": {
                "model": self.network.request.spec.name,
                "input": list(layers.input_shape),
                "parameters": layers.parameters,
                "trainable": layers.trainable,
                "weights": self.config.finetune.weights,
            },
            "settings": self.settings(),
            "forecast": {"seconds": self.seconds, "memory_bytes": [low, high]},
        }


def dry_run(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    report: Reporter = QUIET,
    budget: Budget | None = None,
    **settings: Any,
) -> DryRun:
    """What `opsin.train` would do with the same arguments; nothing is packed, trained or written.

    Args:
        data, root, recipe, name, out: as for `opsin.train`.
        report: told what is chosen for photos, and why.
        budget: of `minutes`, from when they count; None counts them from now.
        settings: any field of the groups in `opsin.config`; and the user's own parts, which are left out here.

    Raises:
        RefusedError: all that `opsin.train` refuses before it packs images.
    """
    plain, _ = split_parts(settings)
    if name is not None:
        free_path(name, out)
    resolved = resolve_settings(
        data, root=root, recipe=recipe, settings=absolute(plain, out), report=report, budget=budget
    )
    dataset, config = resolved.dataset, resolved.config
    check_before_packing(dataset, config)
    network = make_plan(request_of(resolved), samples=len(dataset.splits["train"]))
    return DryRun(
        path=Path(out) / (name or next_name(f"{dataset.name}-{config.model.model}", out)),
        dataset=dataset,
        config=config,
        origins=resolved.origins,
        network=network,
        seconds=_seconds(resolved, network),
    )


def _seconds(resolved: Resolved, network: Plan) -> float:
    """On the wall, from start to report; a budget of minutes ends it."""
    limit = resolved.config.train.minutes
    seconds = _planned_seconds(resolved) or _counted_seconds(resolved, network)
    return seconds if limit is None else min(seconds, 60 * limit)


def _planned_seconds(resolved: Resolved) -> float | None:
    """As the plan for photos has it, where there is one and its epochs were kept."""
    plan = (resolved.plan or {}).get("plan") or {}
    return float(plan["seconds"]) if plan.get("epochs") == resolved.config.train.epochs else None


def _counted_seconds(resolved: Resolved, network: Plan) -> float:
    """Images decoded, features where they are computed once, epochs of training, val scored after each."""
    dataset, train, time = resolved.dataset, resolved.config.train, network.time
    assert time is not None  # it was asked for
    counts = {name: len(source) for name, source in dataset.splits.items()}
    score = counts.get("val", 0) * time.seconds_per_image_inference
    features = (counts["train"] * time.seconds_per_image_inference + score) if network.request.cached else 0.0
    one_epoch = (time.seconds_per_epoch or 0.0) * _share_of_pixels(resolved.config, network) + score
    packing = sum(counts.values()) * decode_seconds(dataset)
    return START_S + packing + features + train.epochs * one_epoch + score + FINISH_S


def _share_of_pixels(config: RunConfig, network: Plan) -> float:
    """Pixels of a training image, as a share of the input's, over the heights of the course of training."""
    heights = config.train.resolutions
    return float(np.mean([(height / network.layers.input_shape[1]) ** 2 for height in heights])) if heights else 1.0
