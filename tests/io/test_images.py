"""Images: what is read, how each mode becomes RGB, and what is refused."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import encoded, exif_block, image_seeds, photo
from PIL import Image

from opsin.errors import ImageError
from opsin.io import images
from opsin.io.images import (
    UPRIGHT,
    Limits,
    decode_image,
    encode_jpeg,
    encode_png,
    is_gray,
    read_image,
    read_mask,
)

SEEDS = {seed.name: seed.data for seed in image_seeds() if seed.name != "mask"}
WHOLE_FORMATS = ("jpeg", "png", "webp", "bmp", "gif", "ppm")


def chw(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes, data: bytes = SEEDS["png"]) -> bytes:
    """A PNG with further chunks after its IHDR."""
    return data[:33] + b"".join(chunks) + data[33:]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to no pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("name", SEEDS)
def test_every_allowed_format_and_mode_is_read_as_rgb(name: str) -> None:
    decoded = decode_image(SEEDS[name], name)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.ndim == 3
    assert decoded.pixels.shape[0] == 3
    assert decoded.pixels.flags.c_contiguous


@pytest.mark.parametrize("name", ["png", "bmp", "ppm"])
def test_lossless_formats_give_the_stored_pixels(name: str) -> None:
    assert np.array_equal(decode_image(SEEDS[name], name).pixels, chw(photo()))


@pytest.mark.parametrize("name", WHOLE_FORMATS)
@pytest.mark.parametrize("tenths", [0.02, 0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 0.98])
def test_a_file_cut_off_anywhere_is_refused_with_its_name(name: str, tenths: float, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{name}"
    path.write_bytes(SEEDS[name][: int(len(SEEDS[name]) * tenths)])
    with pytest.raises(ImageError, match=rf"cut\.{name}"):
        read_image(path)


@pytest.mark.parametrize("name", WHOLE_FORMATS)
def test_a_file_without_its_last_byte_is_refused(name: str) -> None:
    with pytest.raises(ImageError):
        decode_image(SEEDS[name][:-1], name)


def test_the_format_is_told_by_content_not_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(SEEDS["png"])
    assert np.array_equal(read_image(path).pixels, chw(photo()))


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "EPS", "PDF", "SGI", "DDS"])
def test_formats_outside_the_list_are_refused_under_any_name(kind: str) -> None:
    with pytest.raises(ImageError, match=r"not a JPEG, PNG, WEBP, BMP, GIF or PPM|Opsin does not read these"):
        decode_image(encoded(photo(), kind), "renamed.png")


JPEG_OF_65500 = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\3\1\x22\0\2\x11\1\3\x11\1\xff\xda\0\2\xff\xd9"

MALFORMED = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"<html>404 not found</html>",
    "fits": b"SIMPLE  =                    T" + bytes(2880),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "png magic alone": b"\x89PNG\r\n\x1a\n",
    "png zero width": png_of_size(0, 10),
    "png zero height": png_of_size(10, 0),
    "png of a billion pixels": png_of_size(32000, 32000),
    "png of the largest size": png_of_size(2**31 - 1, 2**31 - 1),
    "png size above the format's": png_of_size(2**32 - 1, 1),
    "png with too few pixels": png_of_size(100, 100),
    "png with a damaged IHDR": SEEDS["png"][:20] + b"\xff" + SEEDS["png"][21:],
    "png with a damaged IDAT": SEEDS["png"][:-30] + b"\xff" + SEEDS["png"][-29:],
    "png without IDAT": SEEDS["png"][:33] + png_chunk(b"IEND", b""),
    "png with IHDR twice": png_with(SEEDS["png"][8:33]),
    "png with a text bomb": png_with(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**24), 9))),
    "png with an international text bomb": png_with(
        png_chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(2**24), 9))
    ),
    "png with many small text bombs": png_with(*[png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**6), 9))] * 64),
    "png with a frame bomb": png_with(png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
    "png with a chunk beyond the end": png_with(struct.pack(">I", 2**31 - 1) + b"tEXt"),
    "jpeg start alone": b"\xff\xd8\xff",
    "jpeg without a frame header": b"\xff\xd8\xff\xd9",
    "jpeg with a segment of length 0": b"\xff\xd8\xff\xe0\0\0\xff\xd9",
    "jpeg of zero height": b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x10\3\1\x22\0\2\x11\1\3\x11\1\xff\xda\0\2\xff\xd9",
    "jpeg of 65500 x 65500": JPEG_OF_65500,
    "jpeg of 12 bits": b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\1\1\x11\0\xff\xda\0\2\xff\xd9",
    "jpeg with two frame headers": SEEDS["jpeg"][:-2] + b"\xff\xc0\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xd9",
    "jpeg with a thousand passes": SEEDS["jpeg"][:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 1000 + b"\xff\xd9",
    "jpeg with millions of empty passes": SEEDS["jpeg"][:-2] + b"\xff\xda\0\x02" * 4_000_000 + b"\xff\xd9",
    "gif without frames": b"GIF89a\1\0\1\0\0\0\0;",
    "gif of 65535 x 65535": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
    "gif frame beyond its screen": b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
    "gif with a frame bomb": b"GIF89a\1\0\1\0\0\0\0" + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0" * 20_000 + b";",
    "gif with an unknown block": b"GIF89a\1\0\1\0\0\0\0\x99;",
    "webp with only a header": b"RIFF\4\0\0\0WEBP",
    "webp of 16384 x 16384": b"RIFF\x12\0\0\0WEBPVP8L\5\0\0\0\x2f\xff\xff\xff\x0f\0",
    "webp canvas of 2**48 pixels": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6,
    "webp with a damaged stream": SEEDS["webp"][:20] + bytes(len(SEEDS["webp"]) - 20),
    "bmp magic alone": b"BM",
    "bmp with a negative width": SEEDS["bmp"][:18] + struct.pack("<i", -24) + SEEDS["bmp"][22:],
    "bmp of the largest size": SEEDS["bmp"][:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + SEEDS["bmp"][26:],
    "bmp of height -2**31": SEEDS["bmp"][:22] + struct.pack("<i", -(2**31)) + SEEDS["bmp"][26:],
    "bmp with 7 bits": SEEDS["bmp"][:28] + b"\7\0" + SEEDS["bmp"][30:],
    "bmp with an unknown header": SEEDS["bmp"][:14] + b"\xff\0\0\0" + SEEDS["bmp"][18:],
    "ppm without a size": b"P6\n",
    "ppm with letters for a size": b"P6 a b 255\n",
    "ppm of a billion pixels": b"P6 99999 99999 255\n" + bytes(100),
    "ppm with maximum 0": b"P6 1 1 0\n" + bytes(3),
    "ppm with maximum 70000": b"P6 1 1 70000\n" + bytes(6),
    "ppm of zero width": b"P6 0 1 255\n",
    "ppm plain with letters": b"P3 1 1 255\n1 2 x\n",
    "ppm plain above its maximum": b"P3 1 1 255\n1 2 999\n",
    "pfm with infinity": b"Pf 1 1 -1.0\n" + struct.pack("<f", float("inf")),
    "pfm above 1": b"Pf 1 1 -1.0\n" + struct.pack("<f", 2.0),
    "pnm of an unknown kind": b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_images_are_refused(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(MALFORMED[name], "bad.png")
    assert "bad.png" in str(caught.value)


def test_bombs_are_refused_within_256_mebibytes() -> None:
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import test_images as t
from opsin.errors import ImageError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
for data in t.MALFORMED.values():
    try: t.decode_image(data, "bad")
    except ImageError: pass
print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 256 * 2**20


def test_limits_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(SEEDS["png"])
    with pytest.raises(ImageError, match="too many pixels"):
        read_image(path, Limits(max_pixels=24 * 20 - 1))
    with pytest.raises(ImageError, match="too large"):
        read_image(path, Limits(max_bytes=len(SEEDS["png"]) - 1))
    assert read_image(path, Limits(max_pixels=24 * 20, max_bytes=len(SEEDS["png"]))).notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = decode_image(encoded(photo(), kind, **options), "plain").pixels
    exif = exif_block(orientation)[6 if kind == "WEBP" else 0 :]
    turned = decode_image(encoded(photo(), kind, exif=exif, **options), "turned")
    # By the EXIF standard, tag 0x0112: where row 0 and column 0 of the stored pixels are to be shown.
    height_first = {1: (0, 0, 0), 2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1)}
    swap, flip_rows, flip_columns = height_first.get(orientation, (1, 1, 0))
    expected = plain.transpose(0, 2, 1) if swap else plain
    expected = expected[:, ::-1] if flip_rows else expected
    expected = expected[:, :, ::-1] if flip_columns else expected
    assert np.array_equal(turned.pixels, expected)
    assert turned.orientation == orientation
    assert turned.notes == ((f"EXIF orientation {orientation} applied",) if orientation > 1 else ())


def test_every_orientation_but_upright_has_an_operation() -> None:
    assert set(UPRIGHT) == set(range(2, 9))


@pytest.mark.parametrize(
    "exif",
    [exif_block(0), exif_block(9), exif_block(6)[:20], b"Exif\0\0" + b"garbage" * 9, b"Exif\0\0II*\0\xff\xff\xff\xff"],
    ids=["zero", "nine", "cut off", "garbage", "offset beyond the end"],
)
def test_broken_exif_is_tolerated_and_noted(exif: bytes) -> None:
    decoded = decode_image(encoded(photo(), "JPEG", exif=exif), "broken")
    assert decoded.pixels.shape == (3, 20, 24)
    assert decoded.notes == ("broken EXIF orientation ignored",)
    assert decoded.orientation == 1


@pytest.mark.parametrize(("largest", "noted"), [(4095, True), (4096, False)])
def test_16_bits_of_which_12_are_used_are_said_to_keep_few_levels(largest: int, noted: bool) -> None:
    values = np.array([[0, 16, largest]], dtype=np.uint16)
    decoded = decode_image(encoded(Image.fromarray(values), "PNG"), "deep")
    assert decoded.pixels[0].tolist() == [[0, 0, 16]]
    assert decoded.notes[0] == "16 bits scaled to 8"
    assert any("at most 17 of 256 grey levels" in note for note in decoded.notes) == noted


def test_16_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    decoded = decode_image(encoded(Image.fromarray(values), "PNG"), "deep")
    assert decoded.pixels[0].tolist() == [[0, 1, 128, 255]]
    assert decoded.notes == ("16 bits scaled to 8",)
    assert is_gray(decoded.pixels)
    pgm = decode_image(b"P5 4 1 65535\n" + values.astype(">u2").tobytes(), "deep")
    assert pgm.pixels[0].tolist() == [[0, 1, 128, 255]]


def test_float_images_are_scaled_from_0_to_1() -> None:
    decoded = decode_image(b"Pf 3 1 -1.0\n" + struct.pack("<3f", 0.0, 0.5, 1.0), "float")
    assert decoded.pixels[0].tolist() == [[0, 128, 255]]
    assert decoded.notes == ("float scaled from 0..1 to 8 bits",)


def test_transparency_is_composited_on_white() -> None:
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=np.uint8)
    decoded = decode_image(encoded(Image.fromarray(rgba), "PNG"), "alpha")
    assert decoded.pixels[:, 0].T.tolist() == [[200, 100, 0], [255, 255, 255], [244, 224, 204]]
    assert decoded.notes == ("transparency composited on white",)


def test_opaque_alpha_changes_no_pixel() -> None:
    decoded = decode_image(SEEDS["png-alpha"], "opaque")
    assert "opaque alpha dropped" in decoded.notes
    assert np.array_equal(np.rot90(decoded.pixels, 2, axes=(1, 2)), chw(photo()))


def test_a_grey_image_with_alpha_is_composited_too() -> None:
    grey = np.array([[[10, 255], [10, 0]]], dtype=np.uint8)
    assert decode_image(encoded(Image.fromarray(grey), "PNG"), "la").pixels[:, 0].T.tolist() == [[10] * 3, [255] * 3]


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([9, 8, 7, 6, 5, 4])
    decoded = decode_image(encoded(image, "PNG", transparency=1), "p")
    assert decoded.pixels[:, 0].T.tolist() == [[9, 8, 7], [255, 255, 255]]


@pytest.mark.parametrize(("mode", "kind"), [("1", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("1", "BMP")])
def test_other_modes_are_converted_and_noted(mode: str, kind: str) -> None:
    image = photo().convert(mode)
    assert decode_image(encoded(image, kind), "mode").notes == (f"mode {mode} converted",)


def test_plain_grey_needs_no_note() -> None:
    decoded = decode_image(encoded(photo().convert("L"), "PNG"), "grey")
    assert decoded.notes == ()
    assert is_gray(decoded.pixels)
    assert not is_gray(chw(photo()))


@pytest.mark.parametrize("name", ["gif-animated", "webp-animated", "png-animated"])
def test_animations_give_their_first_frame_and_say_so(name: str) -> None:
    decoded = decode_image(SEEDS[name], name)
    assert "first of 3 frames" in decoded.notes
    assert np.abs(decoded.pixels.astype(int) - chw(photo())).mean() < 20


def test_a_single_pixel_is_an_image() -> None:
    assert decode_image(encoded(photo(1, 1), "PNG"), "dot").pixels.shape == (3, 1, 1)


@pytest.mark.parametrize("name", ["ünïcode-ж.png", "new\nline.png", "<script>alert(1)<script>.png", "x" * 200 + ".png"])
def test_odd_names_are_read_and_printed_safely(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(SEEDS["png"])
    assert read_image(path).pixels.shape == (3, 20, 24)
    path.write_bytes(b"bad")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert name.replace("\n", "\\n") in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "nul\0.png"):
        with pytest.raises(ImageError):
            read_image(path)


def test_trailing_bytes_are_tolerated() -> None:
    assert decode_image(SEEDS["jpeg"] + b"camera trailer", "trailer").pixels.shape == (3, 24, 20)


@pytest.mark.parametrize("channels", [1, 3])
def test_encode_png_is_lossless(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    decoded = decode_image(encode_png(pixels), "png").pixels
    assert np.array_equal(decoded, np.broadcast_to(pixels, (3, 5, 7)))


def test_encode_jpeg_keeps_full_colour_resolution() -> None:
    pixels = np.zeros((3, 16, 16), dtype=np.uint8)
    pixels[0, :, ::2] = 255
    decoded = decode_image(encode_jpeg(pixels, quality=95), "jpeg").pixels
    assert np.abs(decoded.astype(int) - pixels).max() < 40  # 4:2:0 is off by more than 100 here


@pytest.mark.parametrize("shape", [(2, 5, 5), (3, 0, 5), (5, 5)])
def test_encoding_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError):
        encode_png(np.zeros(shape, dtype=np.uint8))


def mask_file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    return path


def test_palette_masks_keep_their_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 20], [255, 7, 3]], dtype=np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette([(i * 37) % 256 for i in range(768)])
    decoded = read_mask(mask_file(tmp_path, encoded(image, "PNG")))
    assert decoded.indices.dtype == np.uint8
    assert decoded.indices.tolist() == indices.tolist()


def test_grey_masks_keep_their_values(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 255]], dtype=np.uint8)
    assert read_mask(mask_file(tmp_path, encoded(Image.fromarray(indices), "PNG"))).indices.tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("color_type", [0, 3])
def test_masks_of_few_bits_keep_their_indices(bits: int, color_type: int, tmp_path: Path) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8 // bits, 1, bits, color_type, 0, 0, 0))
    palette = png_chunk(b"PLTE", bytes(range(48))) if color_type == 3 else b""
    packed = 0b10110001
    pixels = png_chunk(b"IDAT", zlib.compress(bytes([0, packed])))
    data = b"\x89PNG\r\n\x1a\n" + header + palette + pixels + png_chunk(b"IEND", b"")
    expected = [packed >> shift & (2**bits - 1) for shift in range(8 - bits, -1, -bits)]
    assert read_mask(mask_file(tmp_path, data)).indices.tolist() == [expected]


def test_masks_turn_with_their_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[1, 2]], dtype=np.uint8))
    decoded = read_mask(mask_file(tmp_path, encoded(image, "PNG", exif=exif_block(6))))
    assert decoded.indices.tolist() == [[1], [2]]
    assert decoded.notes == ("EXIF orientation 6 applied",)


@pytest.mark.parametrize("name", ["jpeg", "png", "png-16", "png-alpha", "bmp", "gif"])
def test_what_holds_no_indices_is_refused_as_a_mask(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a mask"):
        read_mask(mask_file(tmp_path, SEEDS[name]))


@pytest.fixture(scope="module")
def photo_of_48_megapixels() -> bytes:
    rows = np.random.default_rng(0).integers(0, 256, (8, 8000), dtype=np.uint8).repeat(750, 0)
    buffer = io.BytesIO()
    Image.fromarray(rows).save(buffer, "JPEG", quality=30)
    return buffer.getvalue()


def test_a_phones_photo_of_48_megapixels_is_read(
    photo_of_48_megapixels: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "available_memory", lambda: 2 << 30)
    assert decode_image(photo_of_48_megapixels, "a.jpg").pixels.shape == (3, 6000, 8000)


def test_a_photo_that_does_not_fit_into_the_free_memory_is_refused_before_it_is_decoded(
    photo_of_48_megapixels: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "available_memory", lambda: 1 << 30)
    with pytest.raises(ImageError, match=r"free memory[\s\S]*48,000,000 pixels"):
        decode_image(photo_of_48_megapixels, "a.jpg")


@pytest.mark.parametrize("side", [6_000, 22_000, 100_000, 2**31 - 1])
def test_a_small_file_that_claims_many_pixels_is_refused(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "available_memory", lambda: 1 << 60)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", bytes(30_000)) + png_chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + chunks
    with pytest.raises(ImageError, match="too many pixels"):
        decode_image(data, "bomb.png")


def test_pixels_that_are_taken_out_in_strips_are_those_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode_image(SEEDS["png"], "a.png").pixels
    monkeypatch.setattr(images, "STRIP_PIXELS", 50)
    np.testing.assert_array_equal(decode_image(SEEDS["png"], "a.png").pixels, whole)


def damaged_jpeg(seed: int) -> bytes:
    data = bytearray(encoded(photo(240, 160), "JPEG", quality=90))
    place = len(data) // 2 + seed
    data[place : place + 40] = bytes(40)
    return bytes(data)


def test_a_damaged_jpeg_is_noted_where_its_codes_do_not_end_with_its_data() -> None:
    notes = [decode_image(damaged_jpeg(seed), "a.jpg").notes for seed in range(0, 600, 20)]
    assert sum("damaged" in " ".join(note) for note in notes) >= 5


@pytest.mark.parametrize("quality", [5, 50, 95, 100])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (240, 160)])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"optimize": True}, {"progressive": True}])
def test_a_whole_jpeg_is_never_called_damaged(quality: int, size: tuple[int, int], options: dict[str, object]) -> None:
    data = encoded(photo(*size), "JPEG", quality=quality, **options)
    found = decode_image(data, "a.jpg")
    assert found.notes == ()
    np.testing.assert_array_equal(found.pixels, chw(Image.open(io.BytesIO(data))))
