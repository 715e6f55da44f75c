"""Shifts of images, and what they do to a network that looks at one pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from opsin import artifact as artifacts
from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.comparison.shifts import shifted, shifted_accuracy
from opsin.config import RunConfig
from opsin.data.samples import Samples
from opsin.models.building import build_network
from opsin.models.registry import ModelSpec
from opsin.runs import RunWriter
from opsin.types import SizePolicy


def test_a_shift_there_and_back_leaves_the_middle_as_it_was() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 9), dtype=np.uint8)
    back = shifted(shifted(images, 2, -3), -2, 3)
    np.testing.assert_array_equal(back[:, :, :6, 3:], images[:, :, :6, 3:])


def test_a_network_that_looks_at_one_pixel_loses_it(tmp_path: Path) -> None:
    """Class 1 has its centre bright; a dense network reads exactly that pixel."""
    spec = ModelSpec(name="dense", channels=1, height=5, width=5, options={"dense": [], "batch_norm": False})
    network = build_network(spec, {"logits": 2}, seed=0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("heads.logits.weight")[1, 12] = 1.0
        network.get_parameter("heads.logits.bias")[0] = 0.5
    size = SizePolicy(height=5, width=5)
    preprocess = Preprocess(size=size, color="gray", range=(0.0, 1.0), mean=(0.0,), std=(1.0,))
    made = Artifact(
        network=network, task="classify", classes=("dark", "bright"), spec=spec, preprocess=preprocess, meta={}
    )
    run = RunWriter.create(RunConfig(source="made"), name="one", out=tmp_path).run
    artifacts.save(run.model_folder, made, golden_images=torch.zeros(1, 1, 5, 5, dtype=torch.uint8))
    images = np.zeros((2, 1, 5, 5), np.uint8)
    images[1, 0, 2, 2] = 255
    samples = Samples(images=images, ids=["a", "b"], sizes=np.full((2, 2), 5, np.int32), labels=np.array([0, 1]))
    assert shifted_accuracy(run, samples, [0, 1]) == {0: 1.0, 1: 0.5}
