"""The learning-rate range test: one short run in which the rate rises from too low to too high.

Source: L. Smith, arXiv 1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsin.batches.loader import batches
from opsin.config import require
from opsin.data.samples import Dataset
from opsin.errors import DivergedError
from opsin.progress import Reporter
from opsin.training.engine.step import Stepper
from opsin.training.setup.prepared import Prepared, choose_precision
from opsin.training.setup.preparing import prepare_from

LOWEST, HIGHEST = 1e-3, 10.0
"""Ends of the range, as factors of the configured rate."""
SMOOTHING = 0.9
DIVERGED = 4.0
"""The run ends when the smoothed loss is this many times its lowest."""
BACK_OFF = 3.0
"""The suggestion is this much below the rate of the lowest loss."""


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """Loss against learning rate.

    `rates` and `losses` (smoothed) belong together; `suggestion` is a third of the rate with the lowest loss.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_lr(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    steps: int = 100,
    root: Path | str | None = None,
    recipe: str | None = None,
    quiet: bool = False,
    **settings: Any,
) -> RateCurve:
    """Train `steps` steps on a discarded network while the rate rises exponentially, and suggest a rate.

    Args:
        data: as for `opsin.train`.
        steps: steps of the optimizer; about a hundred give a smooth curve.
        root: folder of the catalogue's data sets.
        recipe: as for `opsin.train`.
        quiet: no progress.
        settings: as for `opsin.train`; the range is 1/1000 to 10 times `lr`.

    Raises:
        RefusedError: settings or data are invalid.
        DivergedError: the loss was not finite at the lowest rate already.
    """
    require(steps > 0, "steps", steps, "1 or more")
    report = Reporter(quiet=quiet)
    prepared = prepare_from(data, root=root, recipe=recipe, settings=settings, report=report)
    factors = [LOWEST * (HIGHEST / LOWEST) ** (i / max(steps - 1, 1)) for i in range(steps)]
    with report.bar("finding the learning rate", steps) as bar:
        losses = _losses(prepared, factors, bar.advance)
    peak = prepared.config.train.lr
    return read_curve([peak * factor for factor in factors[: len(losses)]], losses)


def read_curve(rates: list[float], losses: list[float]) -> RateCurve:
    """Smooth the losses, and suggest a rate a little below that of the lowest loss."""
    smooth, average = [], 0.0
    for i, loss in enumerate(losses):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth.append(average / (1 - SMOOTHING ** (i + 1)))
    lowest = min(range(len(smooth)), key=smooth.__getitem__)
    return RateCurve(rates=tuple(rates), losses=tuple(smooth), suggestion=float(f"{rates[lowest] / BACK_OFF:.1e}"))


def _losses(prepared: Prepared, factors: list[float], advance: Callable[[], object]) -> list[float]:
    """Loss of each step, until the network diverges."""
    config = prepared.config
    stepper = Stepper(
        prepared.artifact.network.train(),
        task=prepared.task,
        preprocess=prepared.artifact.preprocess,
        config=config,
        precision=choose_precision(prepared).precision,
        device=prepared.device,
        num_classes=len(prepared.dataset.classes),
    )
    losses: list[float] = []
    epoch = 0
    while len(losses) < len(factors):
        for batch in batches(
            prepared.splits["train"].to_augment,
            config.train.batch_size,
            seed=config.train.seed,
            epoch=epoch,
            training=True,
        ):
            step = len(losses)
            if step == len(factors):
                break
            try:
                means = stepper.step(batch, step=step, epoch=epoch, factor=factors[step])
                stepper.reader.check()
            except DivergedError:
                if not losses:
                    raise
                return losses
            losses.append(loss := float(means["loss"]))
            advance()
            if not math.isfinite(loss) or loss > DIVERGED * min(losses):
                return losses
        epoch += 1
    return losses
