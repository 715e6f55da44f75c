"""Benchmarks can be imported, and the doctor's puts its faults in and removes nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from opsin.config import ModelConfig
from opsin.models.registry import ModelSpec, resolve_options
from opsin.tasks import get_task

FOLDER = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, module.__name__, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        benchmark(name, monkeypatch)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("opsin"):
            raise
        pytest.skip(f"{error.name} is not installed")


def test_the_doctors_benchmark_changes_the_networks_that_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = benchmark("doctor", monkeypatch)
    options = resolve_options("plain", ModelConfig(filters=(4,)))
    spec = ModelSpec(name="plain", channels=1, height=8, width=8, options=options)
    with doctor.changed_network(doctor.kill_units):
        network = get_task("classify").build(spec, 3)
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biases
    assert all(bias[0] == -1000 for bias in biases)


def test_the_doctors_benchmark_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("mine")
    monkeypatch.setattr(sys, "argv", ["doctor.py", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        benchmark("doctor", monkeypatch).main()
    assert kept.read_text() == "mine"
