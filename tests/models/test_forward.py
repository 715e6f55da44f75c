"""The one way from images into a network: what it does to them, and that nobody goes another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import opsin
from opsin.batches.preprocess import Preprocess
from opsin.models.wrappers.forward import AS_BATCHED, Forward, Precision
from opsin.types import SizePolicy

CONTRACT = Preprocess(
    size=SizePolicy(height=4, width=6), color="bgr", range=(0.0, 1.0), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)
)


@pytest.mark.parametrize("precision", [Precision(), AS_BATCHED])
def test_a_network_sees_what_the_contract_says_in_the_format_asked_for(precision: Precision) -> None:
    images = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8)
    seen = Forward(preprocess=CONTRACT, precision=precision).input(images)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CONTRACT.mean, CONTRACT.std))
    torch.testing.assert_close(seen, (images.flip(1) / 255 - mean) / std)
    layout = torch.channels_last if precision.channels_last else torch.contiguous_format
    assert seen.is_contiguous(memory_format=layout)


def test_grey_images_that_become_colour_have_the_format_too() -> None:
    seen = Forward(preprocess=CONTRACT).input(torch.zeros(2, 1, 4, 6, dtype=torch.uint8))
    assert seen.shape == (2, 3, 4, 6)
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_the_pass_has_the_precision_asked_for_and_the_input_float32() -> None:
    network = torch.nn.Conv2d(3, 1, 1)
    forward = Forward(preprocess=CONTRACT, precision=Precision(dtype="bfloat16"))
    images = torch.zeros(2, 3, 4, 6, dtype=torch.uint8)
    assert forward.input(images).dtype is torch.float32
    assert forward(network, images).dtype is torch.bfloat16


def test_no_other_file_applies_the_contract_of_an_artefact() -> None:
    folder = Path(opsin.__file__).parent
    applied = re.compile(r"artifact\.preprocess\(|self\.preprocess\(")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if applied.search(path.read_text())}
    # an exported program holds the contract inside; it is proved on the golden images
    assert found == {"exports/program.py", "models/wrappers/forward.py"}


GRADIENTS = """
import torch
from torch import nn
from opsin.models.wrappers.forward import AS_BATCHED, Precision

torch.set_num_threads(2)
for channels in (4, 8):
    torch.manual_seed(0)
    images = torch.randn(25, channels, 16, 16)
    found = []
    for precision in (AS_BATCHED, Precision()):
        torch.manual_seed(1)
        network = precision.place(nn.Sequential(nn.Conv2d(channels, 16, 1, stride=2), nn.ReLU()), torch.device("cpu"))
        if precision.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        for _ in range(20):
            network.zero_grad()
            network(images).square().sum().backward()
        found.append(network[0].weight.grad.clone())
    assert torch.allclose(*found, rtol=1e-3), channels
"""


def test_a_strided_convolution_of_few_channels_neither_crashes_nor_errs_in_channels_last() -> None:
    """In a process of its own: oneDNN writes past a buffer there (issue 6035), which ends the process."""
    ended = subprocess.run([sys.executable, "-c", GRADIENTS], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
