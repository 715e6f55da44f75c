"""Comparison of input normalizations by short runs that differ only in it."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from opsin.artifact import load
from opsin.batches.preprocess import Preprocess
from opsin.config import NormalizeName, require
from opsin.data.samples import Dataset
from opsin.errors import DivergedError
from opsin.models.registry import get_entry
from opsin.progress import Reporter
from opsin.tasks import get_task
from opsin.training.request import Request
from opsin.training.session import carry_out


@dataclass(frozen=True, kw_only=True)
class NormalizationResult:
    """Val scores of one normalization, one for each seed; NaN where the run diverged."""

    normalize: NormalizeName
    scores: tuple[float, ...]
    mean: float
    sd: float
    range: tuple[float, float]
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class NormalizationAnswer:
    """All results, best first, the verdict, and a description of the network."""

    results: tuple[NormalizationResult, ...]
    verdict: str
    network: str = ""


def compare_normalizations(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    seeds: int = 3,
    root: Path | str | None = None,
    quiet: bool = False,
    **settings: Any,
) -> NormalizationAnswer:
    """Train the same network on the same data with each normalization, and compare val scores.

    Args:
        data: as for `opsin.train`.
        seeds: runs of each; they share the split, and differ in weights and order.
        root: folder of the catalogue's data sets.
        quiet: no progress.
        settings: as for `opsin.train`; a plain CNN for 2 epochs unless they say otherwise. Batch norm is switched
            off where the network permits, because it would hide the differences.

    Raises:
        RefusedError: settings or data are invalid.
    """
    require(seeds > 0, "seeds", seeds, "1 or more")
    report = Reporter(quiet=quiet)
    # the preflight would stop a bad normalization, which is to be measured
    settings = {"epochs": 2, "model": "plain"} | settings | {"preflight": False}
    if "batch_norm" in get_entry(str(settings["model"])).option_names:
        settings = {"batch_norm": False} | settings
    found: list[NormalizationResult] = []
    names = [name for name in get_args(NormalizeName) if name != "weights"]
    with tempfile.TemporaryDirectory() as folder, report.bar("comparing", len(names) * seeds) as bar:
        found.extend(_measured(data, name, seeds, root, Path(folder), settings, bar.advance) for name in names)
    ranked = tuple(sorted(found, key=lambda result: (math.isnan(result.mean), -result.mean)))
    return NormalizationAnswer(results=ranked, verdict=verdict(ranked), network=_network_in_words(settings))


def _network_in_words(settings: Mapping[str, Any]) -> str:
    """The network, and whether its batch norm compensates for the normalization."""
    if settings.get("batch_norm") is False:
        return f"{settings['model']} without batch norm, {settings['epochs']} epochs"
    return f"{settings['model']}, {settings['epochs']} epochs; its batch norms hide part of the differences"


def _measured(
    data: Dataset | str | Path | Mapping[str, Any],
    name: NormalizeName,
    seeds: int,
    root: Path | str | None,
    folder: Path,
    settings: Mapping[str, Any],
    advance: Callable[..., object],
) -> NormalizationResult:
    scores: list[float] = []
    contract: Preprocess | None = None
    for seed in range(seeds):
        options = {**settings, "normalize": name, "seed": seed}
        try:
            run = carry_out(data, Request(name=f"{name}-{seed}", out=folder, root=root, quiet=True, settings=options))
        except DivergedError:
            scores.append(float("nan"))
        else:
            value = run.scores["val"][get_task(run.task).main_score].value
            scores.append(math.nan if value is None else value)
            contract = load(run.model_folder).preprocess
        advance(note=name)
    return NormalizationResult(
        normalize=name,
        scores=tuple(scores),
        mean=statistics.fmean(scores),
        sd=statistics.stdev(scores) if len(scores) > 1 else float("nan"),
        range=contract.range if contract else (math.nan, math.nan),
        channel_mean=contract.mean if contract else (),
        channel_std=contract.std if contract else (),
    )


def verdict(ranked: tuple[NormalizationResult, ...]) -> str:
    """The conclusion that the spread over seeds supports."""
    best = ranked[0]
    if math.isnan(best.mean):
        return "no normalization trained without diverging: lower --lr"
    if math.isnan(best.sd):
        return f"`{best.normalize}` is best in one run of each; more --seeds show whether that is more than chance"
    ties = [r.normalize for r in ranked[1:] if not math.isnan(r.mean) and best.mean - r.mean <= best.sd + r.sd]
    if not ties:
        return f"`{best.normalize}` is best, by more than the spread over seeds"
    return f"`{best.normalize}` is best, but {', '.join(f'`{name}`' for name in ties)} is within the spread over seeds"
