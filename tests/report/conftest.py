"""Runs to report on: made once for the session, read-only; a test that changes one copies it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from opsin.report import write_report


def _made_runs() -> ModuleType:
    """The module beside this file, whatever the import mode of pytest."""
    name = "opsin_report_made_runs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("made_runs.py"))
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


HAPPENED = (
    {"event": "interrupt", "time": "2026-11-22T07:00:40Z", "message": "stopped by the user"},
    {"event": "resume", "time": "2026-11-22T07:00:44Z", "message": "went on from step 850"},
)
HOSTILE = ("<script>document.title='run'</script>", "<img src=x onerror=\"document.title='run'\">")


@pytest.fixture(scope="session")
def made_runs() -> ModuleType:
    return _made_runs()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory, made_runs: ModuleType) -> Path:
    """10 classes, val and test scored, interrupted and resumed on the way."""
    folder = tmp_path_factory.mktemp("runs") / "digits-1"
    return made_runs.write_run(folder, made_runs.digits(), splits=("val", "test"), happened=HAPPENED)


@pytest.fixture(scope="session")
def hundred_run(tmp_path_factory: pytest.TempPathFactory, made_runs: ModuleType) -> Path:
    """100 classes, val scored."""
    return made_runs.write_run(tmp_path_factory.mktemp("runs") / "pairs", made_runs.pairs_of_digits(), epochs=6)


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, made_runs: ModuleType) -> Path:
    """2 classes, whose names are HTML."""
    return made_runs.write_run(tmp_path_factory.mktemp("runs") / "hostile", made_runs.digits(HOSTILE), epochs=6)


@pytest.fixture
def interrupted_run(tmp_path: Path, made_runs: ModuleType) -> Path:
    """Stopped before anything was scored: config, data and log are all there is."""
    folder = made_runs.write_run(tmp_path / "cut", made_runs.digits(), epochs=6)
    for file in ("scores.json", "summary.json", "gallery.npz", "environment.json"):
        (folder / file).unlink()
    return folder


@pytest.fixture(scope="session")
def digits_page(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(digits_run, out=tmp_path_factory.mktemp("pages") / "digits.html").read_text(encoding="utf-8")
