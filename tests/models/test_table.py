"""The table of layers, in numbers worked by hand, and the command that prints it."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from opsin.cli import main
from opsin.cli.models import parse_shape
from opsin.errors import ConfigError
from opsin.models.building import build_network
from opsin.models.registry import ENTRIES, SEGMENTERS, ModelSpec
from opsin.models.table import LayerRow, layer_table


def tiny() -> nn.Module:
    options = {"filters": [4], "dense": []}
    return build_network(ModelSpec(name="plain", channels=3, height=6, width=8, options=options), {"logits": 2}, seed=0)


def test_rows_hold_shapes_parameters_and_work_as_worked_by_hand() -> None:
    table = layer_table(tiny(), 3, 6, 8)
    # 4 filters of 3x3x3 and their biases; 48 positions
    conv = LayerRow(
        name="backbone.blocks.0.conv",
        kind="Conv2d",
        output_shape=(4, 6, 8),
        parameters=112,
        trainable=112,
        multiply_adds=4 * 27 * 48,
    )
    # scale, shift, mean and variance of 4 channels; the last two are statistics
    norm = LayerRow(
        name="backbone.blocks.0.norm",
        kind="BatchNorm2d",
        output_shape=(4, 6, 8),
        parameters=16,
        trainable=8,
        multiply_adds=0,
    )
    assert table.rows[:2] == (conv, norm)
    assert [row.output_shape for row in table.rows[2:]] == [(4, 3, 4), (4, 3, 4), (48,), (2,)]
    assert (table.parameters, table.trainable, table.multiply_adds) == (112 + 16 + 98, 112 + 8 + 98, 5184 + 96)


class Twice(nn.Module):
    """One grouped convolution, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.conv(self.conv(images))
        return output


def test_a_layer_used_twice_works_twice_and_is_counted_once() -> None:
    table = layer_table(Twice(), 4, 5, 5)
    assert len(table.rows) == 2
    assert table.parameters == 4 * 2 * 9
    assert table.multiply_adds == 2 * (100 * 2 * 9)


def test_multiply_adds_agree_with_pytorchs_own_counter() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for entry in ENTRIES.values():
        channels, height, width = entry.default_size
        spec = ModelSpec(name=entry.name, channels=channels, height=height, width=width)
        network = build_network(spec, {"logits": 10}, seed=0).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, channels, height, width))
        assert counter.get_total_flops() == 2 * layer_table(network, channels, height, width).multiply_adds


def test_the_printed_table_shows_every_layer_and_the_totals() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    table = layer_table(tiny(), 3, 6, 8)
    console.print(table)
    text = console.export_text()
    assert all(row.name.removeprefix("backbone.") in text for row in table.rows)
    assert "5,184" in text
    assert "226" in text


def test_models_prints_one_document_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "plain", "--filters", "16,32,32,32", "--dense", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["parameters"], found["trainable"]) == ("plain", 31_192, 30_868)
    assert found["options"]["filters"] == [16, 32, 32, 32]
    assert found["layers"][0]["output_shape"] == [16, 32, 32]


def test_models_without_a_name_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json", "--classes", "3", "--input", "3x64x48"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert list(listed) == [*ENTRIES, *SEGMENTERS]
    assert listed["small"]["input_shape"] == [3, 64, 48]
    assert listed["alexnet"]["parameters"] is None  # its strides need sides of 63 pixels
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ENTRIES)


def test_the_unet_is_shown_with_its_way_back_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "unet", "--upsample", "transpose", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert sum(layer["kind"] == "ConvTranspose2d" for layer in layers) == 5
    assert layers[-1]["output_shape"] == [10, 160, 160]


def test_models_prints_a_table_and_what_the_knobs_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "small", "--learned-input"]) == 0
    out = capsys.readouterr().out
    assert "options: filters" in out
    assert "normalize" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["smal"], "did you mean `small`?"),
        (["dense", "--filters", "3"], "no option `filters`"),
        (["plain", "--input", "3x4x4"], "at least 8 pixels"),
        (["plain", "--input", "32"], "CHANNELSxHEIGHTxWIDTH"),
        (["plain", "--classes", "1"], "too few classes"),
        (["--filters", "3"], "options of a network need its name"),
        (["plain", "--model", "dense"], "two networks"),
        (["plain", "--conv-layers", "40", "--downsample", "stride"], "numbers of 1 to 65536"),
    ],
)
def test_wrong_usage_is_refused_with_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments]) == 2
    streams = capsys.readouterr()
    assert says in streams.err
    assert not streams.out


@pytest.mark.parametrize("text", ["", "3x32", "3x32x32x1", "0x3x3", "3x0x3", "-3x2x2", "3x99999x3", "axbxc", "3 32 32"])
def test_other_shapes_than_channels_height_width_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not an image shape"):
        parse_shape(text)


def test_help_and_refusals_of_the_command_load_no_torch() -> None:
    code = "import sys, opsin.cli.models; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
