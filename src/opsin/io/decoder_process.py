"""The program in which HEIC, AVIF and TIFF are decoded, apart from the run: a decoder that fails costs one file.

It is run as a file (`decoders.py`) and imports nothing of Opsin. It reads requests from standard input and answers on
standard output: four bytes, the length of a line of JSON, that line, then as many bytes as its `bytes` says.

    asked:    {"kind": "TIFF", "max_pixels": 500000000, "pixels": true, "low": false, "cpu_s": 60, "bytes": 1234},
              the file
    answered: {"mode": "RGB", "size": [w, h], "stored": [w, h], "orientation": 6, "frames": 1, "bits": 8, "bytes": 99},
              pixels
    refused:  {"refused": "why"}

Pixels are upright; `stored` is the size before the orientation was undone. Colours of 16 bits are answered as their
high bytes; where `low` was asked for and is answered, as many low bytes follow. It ends when standard input does.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from PIL import Image, ImageFile

MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "F")
"""Modes of Pillow that are answered as they are; what is another becomes one of these."""
DNG_VERSION, NEW_SUBFILE_TYPE, PHOTOMETRIC, ORIENTATION = 50706, 254, 262, 274
COLOR_FILTER_ARRAY, LINEAR_RAW = 32803, 34892
MAX_HEADER_BYTES = 1 << 20
OTHER_ENDIAN = {"little": "B", "big": "L"}[sys.byteorder]
OPPOSITE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", OTHER_ENDIAN))
}
"""For each way in which Pillow reads colours of 16 bits and keeps the high bytes, the way that keeps the low ones."""
Header = dict[str, Any]
Decode = Callable[[Header, bytes], tuple[Header, bytes]]


class Refused(Exception):  # noqa: N818 — a refusal, in words for the user
    """The file is not to be decoded, and why."""


def decode(asked: Header, data: bytes) -> tuple[Header, bytes]:
    """What is answered to one request.

    Raises:
        Refused: too many pixels, or a camera's raw file.
    """
    image = OPENERS[asked["kind"]](io.BytesIO(data))
    width, height = image.size
    if not 0 < width * height <= asked["max_pixels"]:
        raise Refused(f"{width} x {height} pixels, at most {asked['max_pixels']:,} for a file of this length")
    answer: Header = {"frames": int(getattr(image, "n_frames", 1)), "bits": _bits(image), "orientation": 1}
    if asked["kind"] == "TIFF":
        _refuse_raw(image, data)
        _refuse_planes(image)
        answer["orientation"] = _orientation(image)
    upright = image.size
    if asked["pixels"]:
        image.load()
        image = _plain(_turned(image) if asked["kind"] == "AVIF" else image)
        upright = image.size
        pixels = image.tobytes()
        if asked["low"] and (low := low_bytes(OPENERS[asked["kind"]](io.BytesIO(data)))) is not None:
            answer["low"], pixels = True, pixels + low.tobytes()
    else:
        pixels = b""
        if asked["kind"] == "AVIF" and image.getexif().get(ORIENTATION, 1) in range(5, 9):
            upright = (height, width)
    turned = answer["orientation"] in range(5, 9)
    answer |= {"mode": image.mode, "size": upright, "stored": upright[::-1] if turned else upright}
    return answer | {"bytes": len(pixels)}, pixels


def _open_tiff(file: BinaryIO) -> Any:
    from PIL import TiffImagePlugin

    return TiffImagePlugin.TiffImageFile(file)


def _open_avif(file: BinaryIO) -> Any:
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return AvifImagePlugin.AvifImageFile(file)


def _open_heic(file: BinaryIO) -> Any:
    import pillow_heif  # type: ignore[import-untyped,import-not-found,unused-ignore]

    heif: Any = pillow_heif  # it has no types
    heif.options.DECODE_THREADS = 1
    return heif.HeifImageFile(file)


OPENERS: dict[str, Callable[[BinaryIO], Any]] = {"TIFF": _open_tiff, "AVIF": _open_avif, "HEIC": _open_heic}


def _bits(image: Any) -> int:
    """Bits of one stored sample of one channel."""
    if (tags := getattr(image, "tag_v2", None)) is not None:
        return int(max(tags.get(258, (1,))))
    return int(image.info.get("bit_depth", 8))


def low_bytes(image: ImageFile.ImageFile) -> Image.Image | None:
    """The low bytes of an image of 16 bits a colour, opened and not yet decoded; None where it is not one.

    Read in the opposite byte order, samples have their low bytes where Pillow looks for the high ones.
    """
    tiles = []
    for tile in image.tile:
        way, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if way not in OPPOSITE:
            return None
        tiles.append(tile._replace(args=(OPPOSITE[way], *rest)))
    image.tile = tiles
    image.load()
    return image


def _refuse_raw(image: Any, data: bytes) -> None:
    """A camera's raw file is a TIFF whose first picture is a small preview."""
    tags = image.tag_v2
    raw = tags.get(PHOTOMETRIC) in (COLOR_FILTER_ARRAY, LINEAR_RAW)
    if raw or DNG_VERSION in tags or data[8:10] == b"CR" or tags.get(NEW_SUBFILE_TYPE, 0) & 1:
        raise Refused("a camera's raw file: develop it to JPEG or TIFF first")


def _refuse_planes(image: ImageFile.ImageFile) -> None:
    """Pillow takes planes of 16 bits for planes of 8."""
    ways = [tile.args[0] for tile in image.tile if isinstance(tile.args, tuple)]
    if _bits(image) > 8 and any(isinstance(way, str) and len(way) == 1 for way in ways):
        raise Refused("16 bits in a plane for each colour: interleave them first (`tiffcp -p contig`)")


def _orientation(image: Any) -> int:
    found = image.tag_v2.get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _turned(image: Any) -> Any:
    """Pillow gives the turning that an AVIF states as an EXIF orientation, and does not apply it."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _plain(image: Any) -> Any:
    """The image in one of `MODES`."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    return image if image.mode in MODES else image.convert("RGB")


def serve(answer: Decode, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until `source` ends."""
    while head := source.read(4):
        (length,) = struct.unpack(">I", head)
        asked: Header = json.loads(source.read(min(length, MAX_HEADER_BYTES)))
        data = source.read(asked["bytes"])
        limit_time(asked["cpu_s"])
        try:
            header, pixels = answer(asked, data)
        except Exception as error:
            known = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
            header, pixels = {"refused": known[:300]}, b""
        line = json.dumps(header).encode()
        sink.write(struct.pack(">I", len(line)) + line)
        sink.write(pixels)
        sink.flush()


def limit_memory(num_bytes: int) -> None:
    """Let this process take no more than `num_bytes` above what it has now, and write neither files nor core dumps."""
    try:
        import resource
    except ImportError:  # Windows: time alone is limited
        return
    try:
        with open("/proc/self/statm") as statm:  # noqa: PTH123
            taken = int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:  # macOS: likewise
        return
    for kind, most in ((resource.RLIMIT_AS, taken + num_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))


def limit_time(cpu_s: float) -> None:
    """Let the system end this process after so many further seconds of work: its parent may have been killed."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + cpu_s) + 1, most))


def main(answer: Decode = decode) -> None:
    """Serve on standard input and output; what a library prints goes nowhere."""
    settings = json.loads(sys.argv[1])
    sys.path[:] = settings["path"]
    sink = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the limit of each request is checked instead
    limit_memory(settings["memory_bytes"])
    serve(answer, sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
