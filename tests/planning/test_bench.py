"""The benchmark of convolutions: its counts by hand, its promises; never a time."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from opsin.cli import main
from opsin.models.table import layer_table
from opsin.planning import bench
from opsin.planning.bench import Convolution, Roof, _timing, bench_conv, explain
from opsin.planning.roofline import draw_roofline


def test_work_and_traffic_worked_by_hand() -> None:
    case = Convolution(batch=2, channels=1, side=4, filters=3, kernel=3)
    assert case.output_side == 2
    assert case.flops == 2 * (2 * 3 * 2 * 2) * 9
    assert case.traffic_bytes(4) == 4 * (2 * 16 + 3 * 9 + 2 * 3 * 4)


def test_work_agrees_with_the_layer_table() -> None:
    case = Convolution(batch=1)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 7, bias=False))
    assert case.flops == 2 * layer_table(layer, 3, 100, 100).multiply_adds


def test_every_device_format_and_batch_is_timed_or_says_why_not() -> None:
    made = bench_conv(batches=(4, 1), repeats=2, side=12)
    timed = [row for row in made.results if row.precision == "float32" and row.device == "cpu"]
    assert {(row.batch, row.memory_format) for row in timed} == {
        (4, "channels first"), (4, "channels last"), (1, "channels first"), (1, "channels last")
    }  # fmt: skip
    assert all(row.median_s is not None or row.skipped for row in made.results)
    assert all(row.low_s <= row.median_s <= row.high_s for row in timed if row.low_s and row.median_s and row.high_s)
    assert any("images/s" in note for note in made.notes)
    if bench.devices() == ["cpu"]:
        assert any("no GPU" in note for note in made.notes)


def test_a_precision_that_is_too_slow_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "too_slow", lambda device, precision: None if precision == "float32" else "slow")
    made = bench_conv(batches=(2, 1), repeats=2, side=12)
    left_out = [row for row in made.results if row.precision == "bfloat16"]
    assert len(left_out) == 2 * len(bench.devices())
    assert all(row.skipped == "slow" and row.median_s is None for row in left_out)
    assert any("slow" in note for note in made.notes)


@pytest.mark.parametrize(("side", "words"), [(100, "is nearly the same"), (7, "differs, 10.4 and 0.9")])
def test_what_is_said_of_the_intensity_is_true_of_it(side: int, words: str) -> None:
    """Filters as large as the images weigh as much as two images: then the small batch has far less work per byte."""
    roof = Roof(device="cpu", precision="float32", flops_per_second=1e9, bytes_per_second=1e9, launch_s=1e-6)
    cases = [Convolution(batch=batch, side=side) for batch in (100, 2)]
    (note,) = explain([_timing(roof, case, "channels last", (1.0, 1.0, 1.0), 2) for case in cases])
    assert f"The arithmetic intensity {words}" in note


def test_the_figure_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench_conv(batches=(4, 1), repeats=2, side=12)
    monkeypatch.setattr(bench, "bench_conv", lambda **_: made)
    figure = tmp_path / "roofline.png"
    assert main(["bench", "conv", "--out", str(figure), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["results"]) == len(made.results)
    with Image.open(io.BytesIO(figure.read_bytes())) as picture:
        assert min(picture.size) > 300
    assert main(["bench", "conv", "--out", str(figure)]) == 0
    assert "images/s" in capsys.readouterr().out
    assert main(["bench", "conv", "--repeats", "0"]) == 2
    draw_roofline(made, figure)
