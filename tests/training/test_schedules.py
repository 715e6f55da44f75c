from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from opsin.config import ScheduleName
from opsin.training.engine.schedules import Plateau, schedule_factor


@pytest.mark.parametrize("name", get_args(ScheduleName))
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_every_schedule_stays_between_zero_and_one(name: ScheduleName, warmup: float) -> None:
    factors = [schedule_factor(name, i / 100, warmup=warmup) for i in range(101)]
    assert min(factors) >= 0
    assert max(factors) == pytest.approx(1, abs=1e-9)


def test_cosine_equals_torchs_annealing() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert schedule_factor("cosine", step / 20) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()


def test_one_cycle_equals_torchs_at_its_turning_points() -> None:
    assert schedule_factor("one-cycle", 0.0) == pytest.approx(1 / 25)
    assert schedule_factor("one-cycle", 0.3) == pytest.approx(1)
    assert schedule_factor("one-cycle", 1.0) == pytest.approx(0, abs=1e-9)


def test_warm_up_rises_linearly_from_zero() -> None:
    assert schedule_factor("constant", 0.0, warmup=0.2) == 0
    assert schedule_factor("constant", 0.05, warmup=0.2) == pytest.approx(0.25)
    assert schedule_factor("linear", 0.6, warmup=0.2) == pytest.approx(0.5)


def test_progress_beyond_the_end_is_zero_for_schedules_that_end_at_zero() -> None:
    assert schedule_factor("linear", 1.02) == 0
    assert schedule_factor("cosine", 1.02) == 0


def test_plateau_halves_after_three_stale_epochs_and_starts_counting_again() -> None:
    plateau = Plateau()
    for loss in (1.0, 0.9, 0.9, 0.95, 0.91):
        plateau.see(loss)
    assert plateau.factor == 0.5
    plateau.see(0.8)
    assert (plateau.factor, plateau.stale, plateau.best) == (0.5, 0, 0.8)


def test_a_plateau_that_sees_nan_counts_it_as_no_better() -> None:
    plateau = Plateau()
    plateau.see(1.0)
    plateau.see(math.nan)
    assert plateau.stale == 1
