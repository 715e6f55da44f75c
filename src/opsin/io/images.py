"""Images from outside: JPEG, PNG, WEBP, BMP, GIF, PPM/PGM, told by their content, decoded to RGB.

What is done to an image that is not 8-bit RGB, each time with a note but for plain grey:

| stored as | becomes |
|---|---|
| grey, 8 bits | R = G = B |
| 1 bit, palette, CMYK | RGB |
| 16 bits | value / 257, rounded (colour PNG: the high byte) |
| float (PFM), 0 to 1 | value * 255, rounded; values outside are refused |
| transparency | composited on white |
| EXIF orientation 2 to 8 | turned upright; a broken or unknown orientation is ignored |
| several frames | the first |

What damage inside of the pixel data shows: PNG has checksums, and is refused. Of a JPEG whose codes do not end where
its data end, a note says that it is damaged (`jpeg`, with what is not found). GIF, WEBP, BMP and PPM have no checksum,
and any byte is a pixel or a code: zeroed bytes in the middle of them cannot be told from a picture.

A limit that Python cannot keep: a decoder that hangs or crashes inside its C library takes the process with it. What is
done against it: only six formats, whole files, no metadata, and a bound on pixels and on passes over them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, PpmImagePlugin
from PIL import WebPImagePlugin as WebPPlugin

from opsin.errors import ImageError
from opsin.io.containers import Container, FormatName, exif_orientation, open_container
from opsin.io.files import PathLike
from opsin.io.foreign import foreign_format
from opsin.io.gate import MEBIBYTE, check_size, printable, read_bytes, refusing
from opsin.io.jpeg import Pieces
from opsin.io.memory import available_memory

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"})
"""Suffixes by which folders are searched. Decoding never looks at them."""

MAX_FRAMES = 10_000
MAX_SCANS = 100
MAX_SCANNED_SHARE = 20
"""Progressive JPEG: more passes than this only for images of less than `free_pixels`, which bounds the time."""
DECODING_BYTES = 12
"""Memory that decoding takes for each pixel: the decoder's copy, a turned or converted one, and the result."""
SHARE_OF_MEMORY = 0.5
"""Of the free memory, for one image: others may be decoded at the same time."""
STRIP_PIXELS = 1 << 20

OPENERS: dict[FormatName, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPPlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
"""The only decoders that are ever called."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused before any decoder runs.

    Attributes:
        max_pixels: width times height, whatever the memory.
        free_pixels: up to this number neither memory nor the length of the file is looked at; a photo with more must
            fit into half of free memory.
        max_pixels_per_byte: of files with more than `free_pixels`; photos have up to 20, flat drawings some hundred.
        max_bytes: length of the file.
        max_text_bytes: all text chunks of a PNG together, unpacked.
    """

    max_pixels: int = 500_000_000
    free_pixels: int = 25_000_000
    max_pixels_per_byte: int = 300
    max_bytes: int = 256 * MEBIBYTE
    max_text_bytes: int = 4 * MEBIBYTE


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedImage:
    """An upright RGB image.

    Attributes:
        pixels: uint8 [3, H, W], RGB.
        notes: what was done on the way, e.g. "first of 12 frames".
        orientation: the EXIF orientation that was undone (1: none). Boxes given for the stored pixels turn with it.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    orientation: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedMask:
    """A mask of class indices.

    Attributes:
        indices: uint8 [H, W], upright: as stored, never through the palette.
        notes: what was done on the way.
    """

    indices: np.ndarray
    notes: tuple[str, ...] = ()


def read_image(path: PathLike, limits: Limits = LIMITS) -> DecodedImage:
    """An image file as upright RGB; see the table above.

    Raises:
        ImageError: missing, empty, cut off, damaged, of another format, or above a limit.
    """
    return decode_image(read_bytes(path, ImageError, limits.max_bytes), str(path), limits)


def decode_image(data: bytes, name: str, limits: Limits = LIMITS) -> DecodedImage:
    """The bytes of an image file as upright RGB; `name` is what error messages call it.

    Raises:
        ImageError: empty, cut off, damaged, of another format, or above a limit.
    """
    container = _checked_container(data, name, limits)
    with refusing(ImageError, name, "the image cannot be decoded"):
        image, notes = _load(container)
        image, orientation = _turn_upright(image, container, notes)
        rgb = _to_rgb(image, container, notes)
        del image
        pixels = _channels_first(rgb)
    return DecodedImage(pixels=pixels, notes=tuple(notes), orientation=orientation)


def decode_thumbnail(data: bytes, name: str, side: int, limits: Limits = LIMITS) -> np.ndarray:
    """The bytes of an image file as upright RGB, uint8 [3, side, side], squashed.

    Of a JPEG no more is decoded than that needs, which takes a third of the time of `decode_image`.

    Raises:
        ImageError: as `decode_image`.
    """
    container = _checked_container(data, name, limits)
    with refusing(ImageError, name, "the image cannot be decoded"):
        image, notes = _load(container, draft_side=2 * side)
        image, _ = _turn_upright(image, container, notes)
        small = _to_rgb(image, container, notes).resize((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def read_size(path: PathLike, limits: Limits = LIMITS) -> tuple[int, int, int]:
    """Height and width of an image file as it is stored, and its EXIF orientation (1: none); nothing is decoded.

    Raises:
        ImageError: as `read_image`, but for damage that only decoding shows.
    """
    container = _checked_container(read_bytes(path, ImageError, limits.max_bytes), str(path), limits)
    return container.height, container.width, exif_orientation(container.exif) or 1


def read_mask(path: PathLike, limits: Limits = LIMITS) -> DecodedMask:
    """A PNG of class indices, palette or grey, at its stored values.

    Raises:
        ImageError: no PNG, colours instead of indices, transparency, 16 bits, or anything that `read_image` refuses.
    """
    name = str(path)
    container = _checked_container(read_bytes(path, ImageError, limits.max_bytes), name, limits)
    if container.format != "PNG":
        do = "save masks as PNG: other formats change the indices"
        raise ImageError("not a mask", where=printable(name), got=container.format, expected="PNG", do=do)
    with refusing(ImageError, name, "the mask cannot be decoded"):
        image, notes = _load(container)
        if image.mode not in ("1", "L", "P") or container.bits > 8:
            expected = "8-bit class indices: a palette or grey PNG"
            got = f"mode {image.mode}, {container.bits} bits"
            raise ImageError("not a mask of indices", where=printable(name), got=got, expected=expected)
        # Pillow stretches grey of 2 and 4 bits to 0..255; palettes and single bits keep their indices.
        step = 255 // (2**container.bits - 1) if image.mode == "L" else 1
        image, _ = _turn_upright(image, container, notes)
        indices = np.ascontiguousarray(np.asarray(image).astype(np.uint8) // np.uint8(step))
    return DecodedMask(indices=indices, notes=tuple(notes))


def _checked_container(data: bytes, name: str, limits: Limits) -> Container:
    """The structure of the file, within the limits; no decoder has run yet."""
    check_size(len(data), limits.max_bytes, name, ImageError)
    if (foreign := foreign_format(data)) is not None:
        kind, do = foreign
        expected = "JPEG, PNG, WEBP, BMP, GIF, PPM or PGM"
        raise ImageError(f"{kind}: Opsin does not read these", where=printable(name), expected=expected, do=do)
    with refusing(ImageError, name, "not a whole image file of an allowed format"):
        container = open_container(data, limits.max_text_bytes)
    pixels = container.width * container.height
    checks = (
        ("an image without pixels", pixels, pixels > 0, "at least 1 x 1"),
        ("too many pixels", pixels, pixels <= limits.max_pixels, f"at most {limits.max_pixels:,}"),
        (
            "too many pixels for so short a file",
            f"{pixels:,} pixels in {len(data):,} bytes",
            pixels <= max(limits.free_pixels, limits.max_pixels_per_byte * len(data)),
            f"at most {limits.max_pixels_per_byte} a byte",
        ),
        ("too many frames", container.frames, container.frames <= MAX_FRAMES, f"at most {MAX_FRAMES}"),
        ("too much text", "more", container.text_bytes <= limits.max_text_bytes, f"{limits.max_text_bytes} bytes"),
        ("too many passes", container.scans, container.scans <= MAX_SCANS, f"at most {MAX_SCANS}"),
        (
            "too many passes for its size",
            container.scans,
            container.scans * pixels <= MAX_SCANNED_SHARE * max(pixels, limits.free_pixels),
            f"at most {MAX_SCANNED_SHARE}",
        ),
    )
    for what, got, holds, expected in checks:
        if not holds:
            raise ImageError(
                what, where=printable(name), got=got, expected=expected, do="make it smaller, or leave it out"
            )
    if pixels > limits.free_pixels:
        _check_memory(pixels, name)
    return container


def _check_memory(pixels: int, name: str) -> None:
    """Refuse a large image that does not fit into free memory now.

    Raises:
        ImageError: it does not.
    """
    free, needed = available_memory(), pixels * DECODING_BYTES
    if free is not None and needed > SHARE_OF_MEMORY * free:
        raise ImageError(
            "too many pixels for the free memory",
            where=printable(name),
            got=f"{pixels:,} pixels, which take {needed / MEBIBYTE:,.0f} MiB",
            expected=f"at most half of the {free / MEBIBYTE:,.0f} MiB that are free",
            do="close other programs, or make the image smaller",
        )


def _load(container: Container, *, draft_side: int | None = None) -> tuple[Image.Image, list[str]]:
    """The decoded image as stored, and the notes so far; with `draft_side` perhaps smaller, but no side under that."""
    file = Pieces(container.data) if container.one_chain else io.BytesIO(container.data)
    image: Image.Image = OPENERS[container.format](file)
    if image.size != (container.width, container.height):
        raise ValueError(f"two sizes: {image.size} and {(container.width, container.height)}")
    if draft_side is not None:
        image.draft(None, (draft_side, draft_side))
    image.load()
    notes = [f"first of {container.frames} frames"] if container.frames > 1 else []
    if isinstance(file, Pieces) and file.damage is not None:
        notes.append(file.damage)
    return image, notes


def _turn_upright(image: Image.Image, container: Container, notes: list[str]) -> tuple[Image.Image, int]:
    orientation = exif_orientation(container.exif)
    if orientation is None:
        notes.append("broken EXIF orientation ignored")
        return image, 1
    if orientation == 1:
        return image, 1
    notes.append(f"EXIF orientation {orientation} applied")
    return image.transpose(UPRIGHT[orientation]), orientation


def turn_upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values [H, W], uint8, of the stored pixels of a photo, turned as EXIF orientation 1 to 8 turns the photo."""
    if orientation == 1:
        return values
    return np.ascontiguousarray(np.asarray(Image.fromarray(values).transpose(UPRIGHT[orientation])))


def encode_mask(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """A palette PNG of class numbers uint8 [H, W], with the colours uint8 [256, 3]."""
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()


def _to_rgb(image: Image.Image, container: Container, notes: list[str]) -> Image.Image:
    """Any mode as RGB, by the table at the top of this file."""
    if container.bits > 8:
        notes.append(f"{container.bits} bits scaled to 8")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_from_16_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        notes.append("float scaled from 0..1 to 8 bits")
        return Image.fromarray(_from_float(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image, notes)
    if image.mode not in ("L", "RGB"):
        notes.append(f"mode {image.mode} converted")
    return image if image.mode == "RGB" else image.convert("RGB")


def _channels_first(rgb: Image.Image) -> np.ndarray:
    """The pixels of an RGB image, uint8 [3, H, W], taken out a strip at a time: a whole copy may not fit."""
    width, height = rgb.size
    pixels = np.empty((3, height, width), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = rgb if rows >= height else rgb.crop((0, top, width, bottom))
        pixels[:, top:bottom] = np.asarray(strip).transpose(2, 0, 1)
    return pixels


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    """Values 0..65535 as uint8, [H, W]: 257 = 65535 / 255."""
    wide = values.astype(np.int32)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise ValueError(f"values {wide.min()} to {wide.max()}, expected 0 to 65535")
    scaled: np.ndarray = (wide + 128) // 257
    return scaled.astype(np.uint8)


def _from_float(values: np.ndarray) -> np.ndarray:
    """Values 0..1 as uint8, [H, W]."""
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"float values {values.min()} to {values.max()}, expected 0 to 1")
    scaled: np.ndarray = np.rint(values * 255)
    return scaled.astype(np.uint8)


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    lowest = alpha.getextrema()[0]
    notes.append("opaque alpha dropped" if lowest == 255 else "transparency composited on white")
    colors = rgba.convert("RGB")
    del rgba
    if lowest == 255:
        return colors
    white = Image.new("RGB", image.size, "white")
    white.paste(colors, mask=alpha)
    return white


def is_gray(pixels: np.ndarray) -> bool:
    """Whether all channels of `pixels`, uint8 [C, H, W], are equal."""
    return all(np.array_equal(pixels[0], channel) for channel in pixels[1:])


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of `pixels`, uint8 [C, H, W] with C = 3 (RGB) or 1 (grey).

    Raises:
        ImageError: another shape or type.
    """
    buffer = io.BytesIO()
    _to_pillow(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """A JPEG without colour subsampling of `pixels`, uint8 [C, H, W] with C = 3 (RGB) or 1 (grey).

    Raises:
        ImageError: another shape or type.
    """
    buffer = io.BytesIO()
    _to_pillow(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _to_pillow(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
        got, expected = f"{pixels.dtype} {list(pixels.shape)}", "uint8 [3, H, W] or [1, H, W]"
        raise ImageError("not an image", got=got, expected=expected)
    return Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
