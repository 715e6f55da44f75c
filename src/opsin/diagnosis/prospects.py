"""What would bring more than a run has: facts that it measured, and what to do about each. No torch.

What is said here comes from the run's own files: its log, its plan, its split sizes, its findings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from opsin.diagnosis.case import Case, case_of
from opsin.diagnosis.curve_checks import check_best_at_the_end
from opsin.diagnosis.score_checks import check_val_too_small
from opsin.runs import Run
from opsin.tasks.common_defaults import SMALLEST_PHOTO_PX
from opsin.types import JsonDict

MOST = 3
"""Lines that are told at the end of a training."""


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """`fact`: what was measured. `do`: what would bring more, with the option."""

    fact: str
    do: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.do}"


def prospects(run: Run) -> tuple[Prospect, ...]:
    """What would bring more, the likeliest first; empty where nothing that was measured says so.

    Raises:
        RunError: a file of the run is damaged.
    """
    case = case_of(run)
    checks: tuple[Callable[[Run, Case], Prospect | None], ...] = (
        _random_start,
        _budget_ended_it,
        _still_rising,
        _frozen,
        _nothing_gained,
        _small_val,
        _near_copies,
    )
    return tuple(found for check in checks if (found := check(run, case)) is not None)[:MOST]


def _random_start(run: Run, case: Case) -> Prospect | None:
    """Photos that started from random weights."""
    size = run.data.size
    photos = run.data.channels == 3 and size is not None and min(size) >= SMALLEST_PHOTO_PX
    if case.config.finetune.weights is not None or run.data.published or not photos:
        return None
    fact = f"the network started from random weights, and knows {case.sizes.get('train', 0):,} photos"
    left_out = "--from-scratch" if case.config.finetune.from_scratch else "--model"
    return Prospect(fact=fact, do=f"leave {left_out} out, and photos start from weights of ImageNet")


def _budget_ended_it(run: Run, case: Case) -> Prospect | None:
    """A budget of minutes that ended the run before its last epoch."""
    minutes, epochs = case.config.train.minutes, case.config.train.epochs
    if run.summary.stopped != "minutes" or not case.epochs or case.epochs[-1].number >= epochs:
        return None
    fact = f"the budget of {minutes:g} min ended it in epoch {case.epochs[-1].number} of {epochs}"
    return Prospect(fact=fact, do=f"--resume --minutes {minutes:g} goes on for as long again")


def _still_rising(run: Run, case: Case) -> Prospect | None:
    found = check_best_at_the_end(case)
    if found is None:
        return None
    return Prospect(fact=found.evidence, do=f"--resume --epochs {2 * case.config.train.epochs}")


def _frozen(run: Run, case: Case) -> Prospect | None:
    """A backbone, or its lower part, that was not trained; the minutes that it would take, where they were measured."""
    way = case.config.finetune.finetune
    if case.config.finetune.weights is None or not (way == "head" or way.startswith("top:")):
        return None
    part = "the backbone" if way == "head" else "the lower part of the backbone"
    costs, plan = _measured_costs(run)
    took = ""
    if costs and plan:
        scale = (plan["side_px"] / costs["side_px"]) ** 2
        took = f", about {math.ceil(3 * costs['whole_s'] * scale * case.sizes.get('train', 0) / 60)} min for 3 epochs"
    return Prospect(fact=f"{part} stayed as its weights were", do=f"--finetune all trains it too{took}")


def _nothing_gained(run: Run, case: Case) -> Prospect | None:
    """No epoch of fine-tuning was better than the head that was fitted before the first one."""
    start = _event(run, "head_start").get("val")
    first = start.get(case.score, math.nan) if isinstance(start, dict) else math.nan
    best = max((epoch.val_score for epoch in case.epochs if epoch.val_score == epoch.val_score), default=math.nan)
    if not first >= best:
        return None
    fact = f"no epoch was better on val than the head that was fitted first ({first:.4f})"
    return Prospect(fact=fact, do="more photos, or labels that are looked through (`opsin clean DATA`)")


def _small_val(run: Run, case: Case) -> Prospect | None:
    found = check_val_too_small(case)
    return (
        None if found is None else Prospect(fact=found.evidence, do="more images, or `opsin cv DATA`, which scores all")
    )


def _near_copies(run: Run, case: Case) -> Prospect | None:
    found = next((f for f in case.findings if f.kind == "near-leak" and f.severity == "warning"), None)
    if found is None:
        return None
    do = f"`opsin evaluate {run.name} --copies` scores val without them"
    return Prospect(fact=found.message, do=do)


def _event(run: Run, kind: str) -> JsonDict:
    """The last event of a kind; empty where there is none."""
    return next((dict(event) for event in reversed(list(run.log)) if event.event == kind), {})


def _measured_costs(run: Run) -> tuple[JsonDict, JsonDict]:
    """What an image was measured to cost, and the plan that was made by it; empty where nothing was measured."""
    event = _event(run, "plan")
    costs, plan = event.get("costs"), event.get("plan")
    return (costs, plan) if isinstance(costs, dict) and isinstance(plan, dict) else ({}, {})
