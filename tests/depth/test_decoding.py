"""Pixels of 16 bits: decoded whole where they are asked for, and as before where they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from deep_files import deep_png, deep_tiff, planar_tiff, random_pixels
from PIL import Image

from opsin.batches.preprocess import Preprocess, measure
from opsin.data.samples import Samples
from opsin.errors import ConfigError, ImageError
from opsin.io.images import decode_image, encode_jpeg, encode_png, read_bits
from opsin.io.in_memory import image_of
from opsin.ops.depth import as_batch, at_depth, brightness
from opsin.ops.resize import fit_image
from opsin.types import SizePolicy

FILES = {
    "png": deep_png,
    "png, interlaced": lambda pixels: deep_png(pixels, interlaced=True),
    "tiff": deep_tiff,
    "tiff, big endian": lambda pixels: deep_tiff(pixels, order=">"),
    "tiff, deflated": lambda pixels: deep_tiff(pixels, packed=True),
    "tiff, big endian, deflated": lambda pixels: deep_tiff(pixels, order=">", packed=True),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FILES)
def test_every_bit_of_a_file_is_read(kind: str, channels: int, tmp_path: Path) -> None:
    pixels = random_pixels(7, 5, channels)
    data = FILES[kind](pixels)
    decoded = decode_image(data, "deep", bits=16)
    assert decoded.pixels.dtype == np.uint16
    assert decoded.notes == ()
    np.testing.assert_array_equal(decoded.pixels, np.broadcast_to(pixels.transpose(2, 0, 1), (3, 7, 5)))
    (tmp_path / "file").write_bytes(data)
    assert read_bits(tmp_path / "file") == 16


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FILES)
def test_8_bits_of_such_a_file_are_rounded_grey_and_cut_colours_as_before(kind: str, channels: int) -> None:
    pixels = random_pixels(7, 5, channels)
    decoded = decode_image(FILES[kind](pixels), "deep")
    wide = pixels.astype(np.int64).transpose(2, 0, 1)
    expected = (wide + 128) // 257 if channels == 1 else wide >> 8
    np.testing.assert_array_equal(decoded.pixels, np.broadcast_to(expected, (3, 7, 5)))
    assert decoded.pixels.dtype == np.uint8
    assert decoded.notes == ("16 bits scaled to 8",)


@pytest.mark.parametrize(
    "data", [encode_png(np.zeros((3, 4, 4), np.uint8)), encode_jpeg(np.zeros((3, 4, 4), np.uint8))]
)
def test_a_file_of_8_bits_stays_of_8_bits(data: bytes, tmp_path: Path) -> None:
    assert decode_image(data, "shallow", bits=16).pixels.dtype == np.uint8
    (tmp_path / "file").write_bytes(data)
    assert read_bits(tmp_path / "file") == 8


@pytest.mark.parametrize("written", [deep_png, deep_tiff])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_halves_of_the_bits_are_turned_upright(orientation: int, written: Callable[..., bytes]) -> None:
    pixels = random_pixels(4, 6, 3)
    high, low = (
        decode_image(written(half, orientation=orientation), "half").pixels.astype(np.uint16)
        for half in (pixels, pixels << 8)
    )
    decoded = decode_image(written(pixels, orientation=orientation), "turned", bits=16)
    assert decoded.orientation == orientation
    np.testing.assert_array_equal(decoded.pixels, high << 8 | low)


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_composited_on_white_in_16_bits(channels: int) -> None:
    pixels = np.full((1, 3, channels), 20_000, np.uint16)
    pixels[0, :, -1] = (65535, 0, 13_107)  # a fifth
    decoded = decode_image(deep_png(pixels), "alpha", bits=16)
    assert decoded.pixels[0].tolist() == [[20_000, 65_535, (20_000 + 4 * 65_535) // 5]]
    assert decoded.notes == ("transparency composited on white",)
    pixels[..., -1] = 65535
    opaque = decode_image(deep_png(pixels), "alpha", bits=16)
    assert opaque.pixels[0].tolist() == [[20_000] * 3]
    assert opaque.notes == ("opaque alpha dropped",)


def test_a_transparent_colour_is_white() -> None:
    pixels = random_pixels(1, 3, 3)
    decoded = decode_image(deep_png(pixels, clear=tuple(pixels[0, 1].tolist())), "clear", bits=16)
    assert decoded.pixels[:, 0, 1].tolist() == [65_535] * 3
    assert decoded.pixels[:, 0, ::2].tolist() == pixels[0, ::2].T.tolist()


def test_12_bits_in_16_are_kept_and_said_to_be_dark() -> None:
    decoded = decode_image(deep_png(np.array([[[0], [1], [4095]]], np.uint16)), "scan", bits=16)
    assert decoded.pixels[0].tolist() == [[0, 1, 4095]]
    assert decoded.notes == ("16 bits of which 12 or fewer are used: kept, at a sixteenth of the brightness or less",)


def test_a_damaged_file_of_16_bits_is_refused() -> None:
    for data in (deep_png(random_pixels(9, 9, 3))[:-30], deep_tiff(random_pixels(9, 9, 3), packed=True)[:-60]):
        with pytest.raises(ImageError):
            decode_image(data, "damaged", bits=16)


@pytest.mark.parametrize("bits", [8, 16])
def test_planes_of_16_bits_are_refused_since_pillow_takes_them_for_8(bits: int) -> None:
    with pytest.raises(ImageError, match="a TIFF that cannot be decoded") as refused:
        decode_image(planar_tiff(random_pixels(5, 4, 3)), "planes", bits=bits)
    assert "interleave" in str(refused.value.got)


def test_path_bytes_array_and_pillow_image_have_the_same_pixels(tmp_path: Path) -> None:
    pixels = random_pixels(5, 6, 1)
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(pixels))
    grey = pixels[..., 0]
    items = [str(path), path.read_bytes(), grey, np.repeat(pixels, 3, axis=2), Image.fromarray(grey)]
    for item in items:
        np.testing.assert_array_equal(image_of(item, "item", bits=16).pixels, np.broadcast_to(grey, (3, 5, 6)))
    with pytest.raises(ImageError, match="not an image"):
        image_of(grey, "for a network of 8 bits")


def test_equal_brightness_is_the_same_float_at_both_depths() -> None:
    every = np.arange(256, dtype=np.uint8)
    deep = at_depth(every, 16)
    assert deep.dtype == np.uint16
    assert brightness(deep).tolist() == every.tolist()
    np.testing.assert_array_equal(at_depth(deep, 8), every)
    assert at_depth(every, 8) is every
    assert at_depth(deep, 16) is deep
    assert as_batch(every).dtype == torch.uint8
    assert as_batch(deep).dtype == torch.float32


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_resampling_16_bits_agrees_with_resampling_8(fit: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 56), np.uint8)
    shallow = fit_image(pixels, SizePolicy(height=16, width=16, fit=fit))  # type: ignore[arg-type]
    deep = fit_image(pixels, SizePolicy(height=16, width=16, fit=fit, bits=16))  # type: ignore[arg-type]
    assert (shallow.dtype, deep.dtype) == (np.uint8, np.uint16)
    assert np.abs(brightness(deep) - shallow).max() <= 1.01


def test_mean_and_deviation_of_16_bits_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 1 << 16, (6, 3, 8, 8), np.uint16)
    samples = Samples(images=images, ids=list("abcdef"), sizes=np.full((6, 2), 8, np.int32))
    contract = measure(samples, "standard", SizePolicy(height=8, width=8, bits=16))
    seen = contract(as_batch(images))
    np.testing.assert_allclose(contract.mean, (images / 65535).mean(axis=(0, 2, 3)), rtol=1e-12)
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(dim=(0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5, rtol=0)


def test_grey_of_16_bits_is_the_luma_of_its_colours() -> None:
    size = SizePolicy(height=4, width=4, bits=16)
    contract = Preprocess(size=size, color="gray", range=(0.0, 1.0), mean=(0.0,), std=(1.0,))
    pixels = random_pixels(4, 4, 3).transpose(2, 0, 1)
    pixels[:, 0, 0] = 65535
    exact = np.tensordot((0.299, 0.587, 0.114), pixels.astype(np.float64), 1)
    assert np.abs(contract.fit_image(pixels)[0] - exact).max() < 1.5


def test_the_contract_of_8_bits_is_written_as_before_and_an_older_one_means_8() -> None:
    shallow = Preprocess(size=SizePolicy(height=4, width=4), color="gray", range=(0, 1), mean=(0.0,), std=(1.0,))
    assert shallow.to_dict()["size"] == {"height": 4, "width": 4, "fit": "squash", "crop_share": 1.0}
    assert Preprocess.from_dict(shallow.to_dict()).size.bits == 8
    deep = Preprocess(size=SizePolicy(height=4, width=4, bits=16), color="gray", range=(0, 1), mean=(0.0,), std=(1.0,))
    assert Preprocess.from_dict(deep.to_dict()) == deep
    with pytest.raises(ConfigError, match="bits"):
        Preprocess(size=SizePolicy(height=4, width=4, bits=12), color="gray", range=(0, 1), mean=(0.0,), std=(1.0,))
