"""DeepLabV3+ and FPN keep the contract of our own networks for masks."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from opsin.cli import main
from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.models.building import build_network, build_segmenter
from opsin.models.parts.layers import seeded
from opsin.models.reach import reach
from opsin.models.registry import ModelSpec, get_entry, resolve_options

NAMES = ("deeplabv3plus", "fpn")


def make(name: str, channels: int = 3, **knobs: object) -> torch.nn.Module:
    pytest.importorskip("segmentation_models_pytorch")
    options = resolve_options(name, ModelConfig(model=name, **knobs), decoder=True)
    spec = ModelSpec(name=name, channels=channels, height=64, width=64, options=options)
    with seeded(0):
        return build_segmenter(spec, 4).eval()


@pytest.mark.parametrize("name", NAMES)
def test_any_size_is_padded_and_cropped_back_exactly(name: str) -> None:
    network = make(name, channels=1)
    images = torch.randn(2, 1, 45, 70, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (0, 96 - 70, 0, 64 - 45), mode="replicate")
    with torch.inference_mode():
        logits, whole = network(images)["logits"], network(padded)["logits"]
    assert logits.shape == (2, 4, 45, 70)
    torch.testing.assert_close(logits, whole[:, :, :45, :70], rtol=1e-4, atol=1e-5)


def test_a_batch_of_one_image_can_be_trained_on() -> None:
    network = make("deeplabv3plus").train()
    network(torch.randn(1, 3, 64, 64))["logits"].square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_mean_over_the_image_in_deeplab_has_no_reach() -> None:
    assert reach(make("deeplabv3plus"), 3, 32) is None


def test_encoders_are_chosen_by_name_and_others_refused() -> None:
    assert resolve_options("fpn", ModelConfig(), decoder=True) == {"encoder": "resnet18"}
    with pytest.raises(ConfigError, match="resnet18"):
        make("fpn", encoder="resnet_18")
    with pytest.raises(ConfigError, match="filters"):
        resolve_options("fpn", ModelConfig(filters=(4, 8)), decoder=True)


def test_they_are_refused_as_classifiers() -> None:
    spec = ModelSpec(name="fpn", channels=3, height=64, width=64, options=get_entry("fpn").options)
    with pytest.raises(ConfigError, match="masks, not labels"):
        build_network(spec, {"logits": 4})


def test_they_are_listed_with_what_they_need_also_where_it_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsin.models.registry.is_installed", lambda: False)
    assert main(["models", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert [listed[name]["parameters"] for name in NAMES] == [None, None]
    assert "opsin[segmentation]" in listed["fpn"]["needs"]
    assert main(["models"]) == 0
    assert 'fpn needs pip install "opsin[segmentation]"' in capsys.readouterr().out


def test_their_layers_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    assert main(["models", "fpn", "--classes", "3", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["parameters"] > 11_000_000
    assert about["layers"]


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    spec = ModelSpec(name="fpn", channels=3, height=64, width=64, options={"encoder": "resnet18"})
    with pytest.raises(ConfigError, match="opsin\\[segmentation\\]"):
        build_segmenter(spec, 4)
