"""Deterministic mutants of every format: each is read or refused, and nothing else ever happens."""

import os
import random
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
from fuzzing import TARGETS, Outcome, mutants, try_case

MUTANTS = {"image": 400, "photo": 80, "parquet": 80, "array": 300, "archive": 150, "annotation": 200, "tensors": 150}


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_themselves_are_read(target: str, tmp_path: Path) -> None:
    outcome = Outcome()
    for seed in TARGETS[target]():
        try_case(seed, seed.data, tmp_path, outcome)
    assert outcome.crashes == []
    assert outcome.refused == 0


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "parquet" or find_spec("pyarrow")])
def test_no_mutant_crashes_a_reader(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    outcome = Outcome()
    for seed, data in islice(mutants(TARGETS[target](), random.Random(7)), MUTANTS[target]):
        try_case(seed, data, tmp_path, outcome)
    assert outcome.crashes == []
    assert outcome.cases == MUTANTS[target]
    assert outcome.refused > outcome.cases // 2
