"""Processes that all tests of this folder share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from group_workers import Workers


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Processes that are started when they are first needed."""
    started = Workers()
    yield started
    started.close()
