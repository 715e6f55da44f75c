"""The preprocessing contract: arithmetic, round trip, refusals, measuring against numpy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from opsin.batches.preprocess import Preprocess, measure
from opsin.data import levels
from opsin.data.samples import Samples
from opsin.errors import ArtifactError, ConfigError, DataError
from opsin.types import SizePolicy

SIZE = SizePolicy(height=6, width=5)


def make(color="rgb", **kwargs) -> Preprocess:
    num = 1 if color == "gray" else 3
    values = {"size": SIZE, "range": (0.0, 1.0), "mean": (0.5, 0.4, 0.3)[:num], "std": (0.2, 0.25, 0.5)[:num]}
    return Preprocess(color=color, **values | kwargs)


def noise(channels=3, num=4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, channels, 6, 5), dtype=torch.uint8, generator=generator)


def make_samples(images) -> Samples:
    num = len(images)
    return Samples(images=images, ids=[str(i) for i in range(num)], sizes=np.zeros((num, 2), dtype=np.int32))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pixels_become_what_torchvision_makes_of_them(dtype):
    images = noise().to(dtype)
    contract = make()
    expected = v2.functional.normalize(noise().float() / 255, list(contract.mean), list(contract.std))
    assert torch.allclose(contract(images), expected, atol=1e-6)
    assert torch.equal(images, noise().to(dtype))


def test_a_pixel_by_hand():
    contract = make("gray", range=(-1.0, 1.0), mean=(0.5,), std=(0.25,))
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    assert torch.allclose(contract(pixels).flatten(), torch.tensor([-6.0, 2.0, -4.4]))


def test_bgr_is_rgb_turned_round_before_the_mean_is_taken_off():
    assert torch.allclose(make("bgr")(noise()), make("rgb")(noise().flip(1)))


def test_grey_networks_see_luma_and_colour_networks_see_grey_thrice():
    red, green, blue = noise().float().unbind(1)
    grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    assert torch.allclose(make("gray")(noise()), make("gray")(grey), atol=1e-5)
    assert torch.equal(make()(noise(1)), make()(noise(1).repeat(1, 3, 1, 1)))


def test_channels_last_images_stay_so():
    images = noise().contiguous(memory_format=torch.channels_last)
    assert make()(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(make()(images), make()(noise()))


def test_a_file_is_resized_and_made_grey_as_pillow_does():
    from PIL import Image

    pixels = noise(num=1)[0].numpy()
    expected = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
    assert np.array_equal(make("gray").fit_image(pixels), expected)
    assert make().fit_image(np.zeros((1, 20, 30), dtype=np.uint8)).shape == (3, 6, 5)
    assert make("gray").fit_image(np.zeros((3, 20, 30), dtype=np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_the_contract_survives_json(color):
    contract = make(color, learned=True)
    assert Preprocess.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


SPOILED = {
    "missing": lambda d: d.pop("mean"),
    "size": lambda d: d["size"].pop("height"),
    "unknown": lambda d: d.update(medium=1),
    "colour": lambda d: d.update(color="cmyk"),
    "type": lambda d: d.update(mean="0.5"),
    "length": lambda d: d.update(mean=[0.5]),
    "nan": lambda d: d.update(mean=[0.5, math.nan, 0.5]),
    "zero": lambda d: d.update(std=[1, 0, 1]),
    "empty range": lambda d: d.update(range=[1, 1]),
    "short range": lambda d: d.update(range=[1]),
    "huge": lambda d: d.update(size={"height": 10**6, "width": 5}),
    "no object": lambda d: d.update(size=7),
    "text": lambda d: d.update(size={"height": "6", "width": 5}),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_contract_in_an_artefact_is_refused(spoil):
    values = make().to_dict()
    spoil(values)
    with pytest.raises(ArtifactError, match="preprocess"):
        Preprocess.from_dict(values)


def test_what_is_no_object_at_all_is_refused():
    with pytest.raises(ArtifactError, match="not an object"):
        Preprocess.from_dict([1, 2])


def test_a_wrong_contract_in_code_is_a_wrong_setting():
    with pytest.raises(ConfigError, match="std"):
        make(std=(1.0, 1.0, -1.0))


@pytest.mark.parametrize("chunk", [1, 700, 1 << 22])
@pytest.mark.parametrize("channels", [1, 3])
def test_standard_is_the_mean_and_deviation_of_all_pixels(channels, chunk, monkeypatch):
    monkeypatch.setattr(levels, "CHUNK_BYTES", chunk)
    images = noise(channels, num=37).numpy()
    contract = measure(make_samples(images), "standard", SIZE)
    assert contract.mean == pytest.approx((images / 255).mean((0, 2, 3)))
    assert contract.std == pytest.approx((images / 255).std((0, 2, 3)))
    seen = contract(torch.from_numpy(images)).double()
    assert torch.allclose(seen.mean((0, 2, 3)), torch.zeros(channels).double(), atol=1e-6)
    assert torch.allclose(seen.std((0, 2, 3), correction=0), torch.ones(channels).double(), atol=1e-6)


@pytest.mark.parametrize(
    ("normalize", "low", "high"), [("none", 0, 255), ("unit", 0, 1), ("signed", -1, 1), ("learned", 0, 1)]
)
def test_the_other_normalizations_are_ranges(normalize, low, high):
    contract = measure(make_samples(noise(1).numpy()), normalize, SIZE)
    ends = contract(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)).flatten()
    assert ends.tolist() == pytest.approx([low, high])
    assert contract.learned == (normalize == "learned")
    assert contract.color == "gray"


def test_a_constant_channel_is_not_stretched():
    images = noise().numpy()
    images[:, 1] = 77
    contract = measure(make_samples(images), "standard", SIZE)
    assert contract.std[1] == 1
    assert contract.mean[1] == pytest.approx(77 / 255)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 4, 4, 4)])
def test_images_that_cannot_be_measured_are_refused(shape):
    with pytest.raises(DataError):
        measure(make_samples(np.zeros(shape, dtype=np.uint8)), "unit", SIZE)


def test_every_bit_is_what_tensors_of_mean_and_deviation_give() -> None:
    """So that networks that were saved when it was computed with tensors answer as they did."""
    rng = np.random.default_rng(0)
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        for _ in range(100):
            mean, std = rng.uniform(-1, 1, 3), rng.uniform(0.01, 2, 3)
            scale, offset = torch.from_numpy(std), (low - torch.from_numpy(mean)) / torch.from_numpy(std)
            contract = make(range=(low, high), mean=tuple(mean.tolist()), std=tuple(std.tolist()))
            expected = ((high - low) / 255 / scale).float(), offset.float()
            given = contract._scale_and_offset(torch.device("cpu"))
            assert all(torch.equal(a.flatten(), b) for a, b in zip(given, expected, strict=True))
