"""Processes that all tests of this folder share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import group_jobs
from group_workers import Workers


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Processes that are started when they are first needed."""
    started = Workers()
    yield started
    started.close()


@pytest.fixture(scope="session")
def lone(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("lone")
    return Path(workers.run(1, group_jobs.trained, "digits", out, "lone", {})[0])
