"""HEIC, AVIF and TIFF: decoded in a process of their own, which may hang, die or swell at the cost of one file."""

from __future__ import annotations

import io
import struct
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fuzzing import encoded, photo
from PIL import Image, features

from opsin.data.load import load
from opsin.data.pack import pack
from opsin.errors import DataError, ImageError
from opsin.io import decoders, images
from opsin.io.decoders import DecoderPool
from opsin.io.images import Limits, decode_image, decode_thumbnail, read_size
from opsin.types import SizePolicy

WITH_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
PROGRAM = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("decoder_process", {str(decoders.PROGRAM)!r})
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)

def answer(asked, data):
    what = data.rpartition(b"!")[2]
    if what == b"sleep":
        time.sleep(600)
    if what == b"spin":
        while True:
            pass
    if what == b"exit":
        os._exit(7)
    if what == b"abort":
        os.abort()
    if what == b"swell":
        bytearray(1 << 34)
    if what == b"lie":
        header, pixels = decoder.decode(asked, data)
        return header | {{"size": [100000, 100000]}}, pixels
    if what == b"short":
        header, pixels = decoder.decode(asked, data)
        return header, pixels[:-1]
    print("chatter")
    return decoder.decode(asked, data)

decoder.main(answer)
"""


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    return encoded(Image.fromarray(pixels), "TIFF", **options)


def tagged(**tags: int) -> bytes:
    """A TIFF with tags of its own, by number."""
    buffer = io.BytesIO()
    photo().save(buffer, "TIFF", tiffinfo={int(name.removeprefix("t")): value for name, value in tags.items()})
    return buffer.getvalue()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    made = DecoderPool(program, timeout_s=20.0, memory_bytes=1 << 30)
    monkeypatch.setattr(images, "POOL", made)
    yield made
    made.close()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_is_read_as_rgb(compression: str) -> None:
    pixels = np.asarray(photo())
    decoded = decode_image(tiff(pixels, compression=compression), "a.tif")
    np.testing.assert_array_equal(decoded.pixels, pixels.transpose(2, 0, 1))
    assert decoded.notes == ()


def test_sixteen_bits_are_scaled_to_eight_and_that_is_said() -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    decoded = decode_image(tiff(values), "deep.tif")
    assert decoded.pixels[0].tolist() == [[0, 1, 255]]
    assert decoded.notes == ("16 bits scaled to 8",)


def test_the_pages_of_a_tiff_are_counted() -> None:
    data = encoded(photo(), "TIFF", save_all=True, append_images=[photo(8, 8), photo(9, 9)])
    decoded = decode_image(data, "scan.tif")
    assert decoded.pixels.shape == (3, 20, 24)
    assert decoded.notes == ("first of 3 pages",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_undone_as_that_of_a_jpeg(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = decode_image(encoded(photo(), "PNG", exif=exif), "a.png")
    data = tagged(t274=orientation)
    decoded = decode_image(data, "a.tif")
    np.testing.assert_array_equal(decoded.pixels, expected.pixels)
    assert (decoded.orientation, decoded.notes) == (expected.orientation, expected.notes)
    (tmp_path / "a.tif").write_bytes(data)
    assert read_size(tmp_path / "a.tif") == (20, 24, orientation)


@WITH_AVIF
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_avif_is_read_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = photo(48, 40)
    data = encoded(image, "AVIF", quality=100, exif=exif.tobytes())
    decoded = decode_image(data, "a.avif")
    png = decode_image(encoded(image, "PNG", exif=exif), "a.png").pixels
    assert decoded.pixels.shape == png.shape
    assert np.abs(decoded.pixels.astype(int) - png).mean() < 12
    (tmp_path / "a.avif").write_bytes(data)
    assert read_size(tmp_path / "a.avif") == (*png.shape[1:], 1)


def test_a_heic_photo_is_read_upright(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photo(64, 48)
    pillow_heif.from_pillow(image).save(buffer, quality=95, exif=exif.tobytes())
    decoded = decode_image(buffer.getvalue(), "a.heic")
    assert decoded.pixels.shape == (3, 64, 48)
    turned = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).transpose(2, 0, 1)
    assert np.abs(decoded.pixels.astype(int) - turned).mean() < 20
    (tmp_path / "a.heic").write_bytes(buffer.getvalue())
    assert read_size(tmp_path / "a.heic") == (64, 48, 1)


def test_a_heic_photo_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"extra `photos` is missing[\s\S]*opsin\[photos\]"):
        decode_image(b"\0\0\0\x18ftypheic" + bytes(40), "a.heic")


def test_thumbnails_of_the_second_tier_are_those_of_the_first() -> None:
    pixels = np.asarray(photo(64, 64))
    expected = decode_thumbnail(encoded(Image.fromarray(pixels), "PNG"), "a.png", 32)
    np.testing.assert_array_equal(decode_thumbnail(tiff(pixels), "a.tif", 32), expected)


@pytest.mark.parametrize(
    ("tags", "data"), [({"t254": 1}, None), ({"t50706": 1}, None), ({}, b"II*\0\x10\0\0\0CR\x02\0" + bytes(60))]
)
def test_a_cameras_raw_file_is_refused(tags: dict[str, int], data: bytes | None) -> None:
    with pytest.raises(ImageError, match="a TIFF that cannot be decoded"):
        decode_image(data or tagged(**tags), "a.dng")


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ImageError, match="24 x 20 pixels"):
        decode_image(tiff(np.asarray(photo())), "a.tif", Limits(max_pixels=479))
    claimed = bytearray(tiff(np.zeros((16, 16), np.uint8)))
    for tag in (256, 257):
        place = claimed.index(struct.pack("<H", tag) + b"\4\0\1\0\0\0")
        claimed[place + 8 : place + 12] = struct.pack("<I", 20_000)
    with pytest.raises(ImageError, match="20000 x 20000 pixels"):
        decode_image(bytes(claimed), "bomb.tif")


@pytest.mark.parametrize(
    ("fault", "said"),
    [("exit", "status 7"), ("abort", "SIGABRT"), ("swell", "MemoryError"), ("lie", "protocol"), ("short", "protocol")],
)
def test_a_decoder_that_fails_costs_one_file(pool: DecoderPool, fault: str, said: str) -> None:
    whole = tiff(np.asarray(photo()))
    if fault == "short":
        pool.timeout_s, said = 2.0, "too long"
    with pytest.raises(ImageError) as caught:
        decode_image(whole + b"!" + fault.encode(), "bad.tif")
    assert said in str(caught.value)
    assert "bad.tif" in str(caught.value)
    assert decode_image(whole, "good.tif").pixels.shape == (3, 20, 24)


@pytest.mark.parametrize("fault", ["sleep", "spin"])
def test_a_decoder_that_hangs_is_stopped(pool: DecoderPool, fault: str) -> None:
    whole = tiff(np.asarray(photo()))
    decode_image(whole, "good.tif")  # its process has started
    pool.timeout_s = 1.0
    began = time.monotonic()
    with pytest.raises(ImageError, match="too long"):
        decode_image(whole + b"!" + fault.encode(), "bad.tif")
    assert time.monotonic() - began < 60
    pool.timeout_s = 20.0
    assert decode_image(whole, "good.tif").pixels.shape == (3, 20, 24)


def test_a_process_is_kept_for_the_next_file(pool: DecoderPool) -> None:
    for _ in range(3):
        decode_image(tiff(np.asarray(photo())), "a.tif")
    assert len(pool._idle) == 1


def test_cut_and_garbled_files_are_refused_by_name() -> None:
    whole = tiff(np.asarray(photo(64, 64)), compression="tiff_adobe_deflate")
    rng, refused = np.random.default_rng(0), 40
    for i in range(40):
        data = bytearray(whole[: int(rng.integers(9, len(whole)))]) if i % 2 else bytearray(whole)
        for place in rng.integers(4, len(data), 20):
            data[place] = rng.integers(0, 256)
        with suppress(ImageError):
            refused -= decode_image(bytes(data), f"file {i}").pixels.ndim == 3
    assert refused >= 20


def test_a_folder_of_tiffs_is_packed_and_a_broken_one_is_named(tmp_path: Path, pool: DecoderPool) -> None:
    for i in range(24):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (20, 24, 3)).astype(np.uint8)
        (folder / f"{i}.tiff").write_bytes(tiff(pixels))
    found = load(tmp_path)
    assert found.size == (20, 24)
    assert pack(found, SizePolicy(height=20, width=24))["train"].images.shape[1:] == (3, 20, 24)
    (tmp_path / "a" / "0.tiff").write_bytes(tiff(pixels) + b"!exit")
    with pytest.raises(DataError, match=r"0\.tiff: a TIFF whose decoder failed"):
        pack(load(tmp_path), SizePolicy(height=20, width=24))
