"""Images from outside, told by their content, decoded to RGB.

JPEG, PNG, WEBP, BMP, GIF and PPM/PGM are decoded here; HEIC, AVIF and TIFF in processes of their own (`decoders`).

What is done to an image that is not 8-bit RGB, each time with a note but for plain grey:

| stored as | becomes |
|---|---|
| grey, 8 bits | R = G = B |
| 1 bit, palette, CMYK | RGB |
| 16 bits | value / 257, rounded (colour PNG: the high byte); a note says where 12 bits or fewer are used |
| 16 bits that are asked for | as they are; of PPM of colour and of CMYK, HEIC and AVIF still 8 |
| float (PFM), 0 to 1 | value * 255, rounded; values outside are refused |
| transparency | composited on white |
| EXIF orientation 2 to 8 | turned upright; a broken or unknown orientation is ignored |
| several frames or pages | the first |

What damage inside of the pixel data shows: PNG has checksums, and is refused. Of a JPEG whose codes do not end where
its data end, a note says that it is damaged (`jpeg`, with what is not found). GIF, WEBP, BMP and PPM have no checksum,
and any byte is a pixel or a code: zeroed bytes in the middle of them cannot be told from a picture.

A limit that Python cannot keep: a decoder that hangs or crashes inside its C library takes the process with it. What is
done against it here: only six formats, whole files, no metadata, and a bound on pixels and on passes over them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, PpmImagePlugin
from PIL import WebPImagePlugin as WebPPlugin

from opsin.errors import ImageError
from opsin.io.containers import Container, FormatName, exif_orientation, stored_bits
from opsin.io.decoder_process import low_bytes
from opsin.io.decoders import POOL, Decoded, KindName
from opsin.io.encoding import encode_jpeg as encode_jpeg
from opsin.io.encoding import encode_mask as encode_mask
from opsin.io.encoding import encode_png as encode_png
from opsin.io.encoding import is_gray as is_gray
from opsin.io.files import PathLike
from opsin.io.foreign import second_tier
from opsin.io.gate import MEBIBYTE, check_size, open_regular, printable, read_bytes, refusing
from opsin.io.jpeg import Pieces
from opsin.io.limits import LIMITS as LIMITS
from opsin.io.limits import Limits as Limits
from opsin.io.limits import checked_container
from opsin.io.memory import available_memory
from opsin.io.pixels import to_deep_rgb, to_rgb

SECOND_TIER_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif", ".tif", ".tiff"})
IMAGE_SUFFIXES = SECOND_TIER_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
}
"""Suffixes by which folders are searched. Decoding never looks at them."""

Sides = Callable[[int, int], tuple[int, int]]
"""From height and width of an upright image to those at which it is looked at: more pixels need not be decoded."""
DECODING_BYTES = 12
"""Memory that decoding takes for each pixel: the decoder's copy, a turned or converted one, and the result; of 16 bits
twice as much."""
SHARE_OF_MEMORY = 0.5
"""Of the free memory, for one image: others may be decoded at the same time."""
COEFFICIENT_BYTES = 6
"""Memory that a JPEG of several passes takes for each pixel, at whatever scale it is decoded."""
REDUCTIONS = (8, 4, 2)
"""What the sides of a JPEG can be divided by while it is decoded."""
SPARE = 2
"""A JPEG is decoded at this many times the sides that are looked at, or more: the rest is resampled with care."""
STRIP_PIXELS = 1 << 20
DEEP = range(9, 17)
"""Bits of samples that are kept as 16."""

OPENERS: dict[FormatName, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPPlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
"""The only decoders that are ever called."""

SIDEWAYS = 5
"""EXIF orientations from here on turn an image by a quarter: its stored width is its height."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedImage:
    """An upright RGB image.

    Attributes:
        pixels: uint8 [3, H, W], RGB; uint16 of a file with more bits, where they were asked for.
        notes: what was done on the way, e.g. "first of 12 frames".
        orientation: the EXIF orientation that was undone (1: none). Boxes given for the stored pixels turn with it.
        whole: height and width of the upright image in the file, where `pixels` are fewer.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    orientation: int = 1
    whole: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright image in the file, in whose pixels boxes and masks are."""
        return self.whole or (int(self.pixels.shape[1]), int(self.pixels.shape[2]))


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedMask:
    """A mask of class indices.

    Attributes:
        indices: uint8 [H, W], upright: as stored, never through the palette.
        notes: what was done on the way.
    """

    indices: np.ndarray
    notes: tuple[str, ...] = ()


def read_image(path: PathLike, limits: Limits = LIMITS, *, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
    """An image file as upright RGB; see the table above, and `decode_image`.

    Raises:
        ImageError: missing, empty, cut off, damaged, of another format, or above a limit.
    """
    return decode_image(read_bytes(path, ImageError, limits.max_bytes), str(path), limits, sides=sides, bits=bits)


def decode_image(
    data: bytes, name: str, limits: Limits = LIMITS, *, sides: Sides | None = None, bits: int = 8
) -> DecodedImage:
    """The bytes of an image file as upright RGB; `name` is what error messages call it.

    With `sides`, a JPEG of many more pixels than are looked at is decoded at a half, a quarter or an eighth of its
    sides, no side under twice that of `sides`; a note says so. With `bits` of 16, a file that has them gives uint16.

    Raises:
        ImageError: empty, cut off, damaged, of another format, or above a limit.
    """
    with refusing(ImageError, name, "the image cannot be decoded"):
        found = _upright(data, name, limits, sides, bits)
        pixels = to_deep_rgb(found.image, found.low, found.notes) if bits > 8 and found.bits in DEEP else None
        if pixels is None:
            pixels = _channels_first(to_rgb(found.image, found.bits, found.notes))
    return DecodedImage(pixels=pixels, notes=tuple(found.notes), orientation=found.orientation, whole=found.whole)


def format_of(data: bytes, name: str, limits: Limits = LIMITS) -> FormatName | KindName:
    """The format of an image file, by its structure; nothing is decoded.

    Raises:
        ImageError: as `decode_image`.
    """
    return second_tier(data) or checked_container(data, name, limits).format


def decode_thumbnail(data: bytes, name: str, side: int, limits: Limits = LIMITS) -> np.ndarray:
    """The bytes of an image file as upright RGB, uint8 [3, side, side], squashed.

    Of a JPEG no more is decoded than that needs, which takes a third of the time of `decode_image`.

    Raises:
        ImageError: as `decode_image`.
    """
    with refusing(ImageError, name, "the image cannot be decoded"):
        found = _upright(data, name, limits, lambda height, width: (side, side))
        small = to_rgb(found.image, found.bits, found.notes).resize((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Upright:
    """An image as it is to be shown, in a mode of Pillow's, and what `DecodedImage` says of it.

    `bits`: of one stored sample. `low`: the low bytes of colours of 16 bits, of which `image` has the high ones.
    """

    image: Image.Image
    bits: int
    notes: list[str]
    orientation: int
    whole: tuple[int, int] | None = None
    low: Image.Image | None = None


def _upright(data: bytes, name: str, limits: Limits, sides: Sides | None, bits: int = 8) -> _Upright:
    """The one way from the bytes of a file to an upright image, in this process or apart from it."""
    if (kind := second_tier(data)) is not None:
        return _decoded_apart(_apart(kind, data, name, limits, pixels=True, bits=bits), kind)
    container = checked_container(data, name, limits)
    reduction = _reduction(container, sides)
    deep = bits > 8 and container.bits in DEEP
    _check_memory(container, reduction, name, limits, bits=16 if deep else 8)
    image, notes = _load(container, reduction)
    image, orientation = _turn_upright(image, container, notes)
    low = _low_bytes(container) if deep else None
    return _Upright(
        image=image,
        bits=container.bits,
        notes=notes,
        orientation=orientation,
        whole=None if reduction == 1 else _upright_size(container),
        low=low if low is None or orientation == 1 else low.transpose(UPRIGHT[orientation]),
    )


def _low_bytes(container: Container) -> Image.Image | None:
    """The low bytes of colours of 16 bits, as stored, in the mode in which Pillow gives the high ones."""
    image = OPENERS[container.format](io.BytesIO(container.data))
    if container.format != "PNG" or image.tile[0].args != "LA;16B":
        return low_bytes(image)
    # Pillow has no second way for grey with alpha: its four bytes are read as four channels.
    image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    image.load()
    _, grey, _, alpha = image.split()
    return Image.merge("RGBA", (grey, grey, grey, alpha))


def _apart(kind: KindName, data: bytes, name: str, limits: Limits, *, pixels: bool, bits: int = 8) -> Decoded:
    """What a process of its own says of a file, within the limits."""
    check_size(len(data), limits.max_bytes, name, ImageError)
    most = min(limits.max_pixels, max(limits.free_pixels, limits.max_pixels_per_byte * len(data)))
    if (free := available_memory()) is not None:
        most = min(most, max(limits.free_pixels, int(SHARE_OF_MEMORY * free / (DECODING_BYTES * bits / 8))))
    return POOL.decode(kind, data, name, max_pixels=min(most, limits.max_pixels), pixels=pixels, low=bits > 8)


def _decoded_apart(found: Decoded, kind: KindName) -> _Upright:
    if found.image is None:
        raise ValueError("no pixels were decoded")
    part = "pages" if kind == "TIFF" else "frames"
    notes = [f"first of {found.frames} {part}"] if found.frames > 1 else []
    notes += [f"EXIF orientation {found.orientation} applied"] if found.orientation > 1 else []
    return _Upright(image=found.image, bits=found.bits, notes=notes, orientation=found.orientation, low=found.low)


def read_size(path: PathLike, limits: Limits = LIMITS) -> tuple[int, int, int]:
    """Height and width of an image file as it is stored, and its EXIF orientation (1: none); nothing is decoded.

    Raises:
        ImageError: as `read_image`, but for damage that only decoding shows.
    """
    data = read_bytes(path, ImageError, limits.max_bytes)
    if (kind := second_tier(data)) is not None:
        found = _apart(kind, data, str(path), limits, pixels=False)
        return found.stored[1], found.stored[0], found.orientation
    container = checked_container(data, str(path), limits)
    return container.height, container.width, exif_orientation(container.exif) or 1


def upright_size(data: bytes, name: str, limits: Limits = LIMITS) -> tuple[int, int] | None:
    """Height and width of the image in `data`, upright, by its header; None where that takes a decoder (second tier).

    Raises:
        ImageError: as `read_image`, but for damage that only decoding shows.
    """
    return None if second_tier(data) is not None else _upright_size(checked_container(data, name, limits))


def read_bits(path: PathLike) -> int:
    """16 where an image file, PNG or TIFF, has more than 8 bits a channel, else 8; only its header is read.

    Raises:
        ImageError: missing, or its header is cut off.
    """
    with open_regular(path, ImageError) as (file, _):
        return bits_of(file, str(path))


def bits_of(file: BinaryIO, name: str) -> int:
    """As `read_bits`, of an open file."""
    with refusing(ImageError, name, "the image cannot be read"):
        return 16 if stored_bits(file) in DEEP else 8


def read_mask(path: PathLike, limits: Limits = LIMITS) -> DecodedMask:
    """A PNG of class indices, palette or grey, at its stored values.

    Raises:
        ImageError: no PNG, colours instead of indices, transparency, 16 bits, or anything that `read_image` refuses.
    """
    name = str(path)
    container = checked_container(read_bytes(path, ImageError, limits.max_bytes), name, limits)
    if container.format != "PNG":
        do = "save masks as PNG: other formats change the indices"
        raise ImageError("not a mask", where=printable(name), got=container.format, expected="PNG", do=do)
    _check_memory(container, 1, name, limits, bits=8)
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


def _upright_size(container: Container) -> tuple[int, int]:
    """Height and width after the EXIF orientation is undone."""
    turned = (exif_orientation(container.exif) or 1) >= SIDEWAYS
    return (container.width, container.height) if turned else (container.height, container.width)


def _reduction(container: Container, sides: Sides | None) -> int:
    """What the sides can be divided by at decoding: 8, 4, 2, or 1, which decodes all."""
    if container.format != "JPEG" or sides is None:
        return 1
    size = _upright_size(container)
    wanted = sides(*size)
    # A side that cannot be divided ends in part of a pixel, which turning would bring to the other end.
    turned = exif_orientation(container.exif) not in (1, None)
    for reduction in REDUCTIONS:
        if is_enough(size, wanted, reduction) and not (turned and any(side % reduction for side in size)):
            return reduction
    return 1


def is_enough(size: tuple[int, int], wanted: tuple[int, int], reduction: int) -> bool:
    """Whether an image of `size`, its sides divided by `reduction`, has the pixels that sides of `wanted` need."""
    return all(have >= SPARE * reduction * need for have, need in zip(size, wanted, strict=True))


def _check_memory(container: Container, reduction: int, name: str, limits: Limits, bits: int) -> None:
    """Refuse a large image that does not fit into free memory now.

    Raises:
        ImageError: it does not.
    """
    pixels = container.width * container.height
    if pixels <= limits.free_pixels:
        return
    free, needed = available_memory(), pixels // reduction**2 * DECODING_BYTES * bits // 8
    if reduction > 1 and container.scans > 1:
        needed += pixels * COEFFICIENT_BYTES
    if free is not None and needed > SHARE_OF_MEMORY * free:
        raise ImageError(
            "too many pixels for the free memory",
            where=printable(name),
            got=f"{pixels:,} pixels, which take {needed / MEBIBYTE:,.0f} MiB",
            expected=f"at most half of the {free / MEBIBYTE:,.0f} MiB that are free",
            do="close other programs, or make the image smaller",
        )


def _load(container: Container, reduction: int = 1) -> tuple[Image.Image, list[str]]:
    """The decoded image as stored, its sides divided by `reduction`, and the notes so far."""
    file = Pieces(container.data) if container.one_chain else io.BytesIO(container.data)
    image: Image.Image = OPENERS[container.format](file)
    if image.size != (container.width, container.height):
        raise ValueError(f"two sizes: {image.size} and {(container.width, container.height)}")
    if reduction > 1:
        image.draft(None, (container.width // reduction, container.height // reduction))
    image.load()
    notes = [f"first of {container.frames} frames"] if container.frames > 1 else []
    notes += [f"decoded at 1/{reduction} of its sides"] if reduction > 1 else []
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
