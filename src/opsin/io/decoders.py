"""Second tier of images: HEIC, AVIF and TIFF, decoded in processes of their own with limits of memory and time.

Their decoders are large, and there is no walk over their structure here. A decoder that hangs, dies or swells is
stopped, its file is refused by name, and the next file gets a new process. Processes are kept for the next file; each
thread that decodes has one of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

from PIL import Image, features

from opsin.errors import ImageError
from opsin.io.gate import MEBIBYTE, printable
from opsin.io.memory import available_memory
from opsin.types import JsonDict

KindName = Literal["HEIC", "AVIF", "TIFF"]
PROGRAM = Path(__file__).with_name("decoder_process.py")
TIMEOUT_S = 60.0
MAX_MEMORY_BYTES = 4096 * MEBIBYTE
SHARE_OF_MEMORY = 0.5
"""Of the memory that is free when a process starts, for that process."""
MAX_HEADER_BYTES = MEBIBYTE
CONVERT = "convert it to JPEG or PNG: `magick FILE FILE.jpg`"
CONVERT_HEIC = "convert it to JPEG: `heif-convert a.heic a.jpg`, or on the iPhone: Settings, Camera, Most Compatible"
CALLED: dict[str, str] = {"HEIC": "a HEIC photo", "AVIF": "an AVIF picture", "TIFF": "a TIFF"}
ROW_BITS = {"1": 1, "L": 8, "LA": 16, "RGB": 24, "RGBA": 32, "CMYK": 32, "I": 32, "F": 32}
"""Bits of a pixel in each mode that is answered; a row begins at a byte."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What a decoder says of a file.

    Attributes:
        image: upright, in one of Pillow's plain modes; None where only the header was asked for.
        low: the low bytes of colours of 16 bits, of which `image` has the high ones; None where they were not asked
            for, or there are none.
        stored: width and height before the orientation was undone.
        orientation: EXIF orientation that was undone, 1 for none.
        frames: pages or frames.
        bits: of one stored sample of one channel.
    """

    image: Image.Image | None
    stored: tuple[int, int]
    orientation: int
    frames: int
    bits: int
    low: Image.Image | None = None


class DecoderPool:
    """Processes that decode, started when they are needed.

    Args:
        program: file that is run; it speaks the protocol of `decoder_process.py`.
        timeout_s: time for one file.
        memory_bytes: memory of one process; None is half of what is free when it starts, at most 4 GiB.
    """

    def __init__(
        self, program: Path = PROGRAM, *, timeout_s: float = TIMEOUT_S, memory_bytes: int | None = None
    ) -> None:
        self.program, self.timeout_s, self.memory_bytes = program, timeout_s, memory_bytes
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        atexit.register(self.close)

    def decode(
        self, kind: KindName, data: bytes, name: str, *, max_pixels: int, pixels: bool = True, low: bool = False
    ) -> Decoded:
        """The pixels of a file, with `low` those of 16 bits whole; or only what its header says.

        Raises:
            ImageError: a part is missing to read it; or its decoder refused it, hung, died, or took too much memory.
        """
        check_readable(kind, name)
        asked = {"kind": kind, "max_pixels": max_pixels, "pixels": pixels, "low": low, "cpu_s": self.timeout_s}
        asked |= {"bytes": len(data)}
        worker = self._taken()
        try:
            answer, payload = worker.ask(asked, data, self.timeout_s, max_pixels)
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise ImageError(
                f"{CALLED[kind]} whose decoder failed",
                where=printable(name),
                got=worker.end() or printable(error),
                expected=f"an answer within {self.timeout_s:g} s",
                do=_remedy(kind),
            ) from error
        except BaseException:
            worker.end()
            raise
        with self._lock:
            self._idle.append(worker)
        if "refused" in answer:
            raise _refusal(kind, str(answer["refused"]), name)
        return _decoded(answer, payload)

    def _taken(self) -> _Worker:
        """A process that waits, or a new one."""
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.lives():
                    return worker
        free = available_memory()
        memory = self.memory_bytes or min(MAX_MEMORY_BYTES, int(SHARE_OF_MEMORY * (free or MAX_MEMORY_BYTES)))
        return _Worker(self.program, memory)

    def close(self) -> None:
        """End all processes that wait."""
        with self._lock:
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.end()


class _Worker:
    """One process that decodes."""

    def __init__(self, program: Path, memory_bytes: int) -> None:
        settings = json.dumps({"path": [place for place in sys.path if place], "memory_bytes": memory_bytes})
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(program), settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._late = False

    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, asked: JsonDict, data: bytes, timeout_s: float, max_pixels: int) -> tuple[JsonDict, bytes]:
        """The answer and its bytes.

        Raises:
            OSError, EOFError, ValueError, KeyError, TypeError: the process ended, or does not keep to the protocol.
        """
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None  # both are pipes
        assert source is not None
        watch = threading.Timer(timeout_s, self._stop)
        watch.daemon = True
        watch.start()
        try:
            line = json.dumps(asked).encode()
            sink.write(struct.pack(">I", len(line)) + line)
            sink.write(data)
            sink.flush()
            (length,) = struct.unpack(">I", _exactly(source, 4))
            answer = json.loads(_exactly(source, min(length, MAX_HEADER_BYTES)))
            wanted = 0 if "refused" in answer or not asked["pixels"] else _num_bytes(answer, max_pixels)
            return answer, _exactly(source, wanted)
        finally:
            watch.cancel()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()

    def end(self) -> str | None:
        """End the process; how it had ended by itself, in words."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # what died has ended, and what waits ends with its input
        late, code = self._late, self._process.poll()
        self._process.kill()
        self._process.wait()
        if late:
            return "it took too long, and was stopped"
        if code in (None, 0):  # its input was closed above
            return "it did not keep to its protocol"
        assert code is not None  # told above
        return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with status {code}"


def _exactly(source: IO[bytes], count: int) -> bytes:
    data = source.read(count)
    if len(data) != count:
        raise OSError("the process ended before it had answered")
    return data


def _num_bytes(answer: JsonDict, max_pixels: int) -> int:
    """How many bytes the pixels of an answer take."""
    width, height = (int(side) for side in answer["size"])
    if not (width > 0 and height > 0 and width * height <= max_pixels):
        raise ValueError(f"{width} x {height} pixels were answered")
    return height * -(-width * ROW_BITS[answer["mode"]] // 8) * (2 if answer.get("low") else 1)


def _decoded(answer: JsonDict, payload: bytes) -> Decoded:
    width, height = (int(side) for side in answer["stored"])
    size, length = (int(answer["size"][0]), int(answer["size"][1])), len(payload) // (2 if answer.get("low") else 1)
    return Decoded(
        image=Image.frombytes(answer["mode"], size, payload[:length]) if payload else None,
        low=Image.frombytes(answer["mode"], size, payload[length:]) if payload[length:] else None,
        stored=(width, height),
        orientation=int(answer["orientation"]),
        frames=int(answer["frames"]),
        bits=int(answer["bits"]),
    )


def _refusal(kind: str, reason: str, name: str) -> ImageError:
    if reason.startswith("MemoryError"):
        what, reason = f"{CALLED[kind]} that takes more memory than its decoder may have", "MemoryError"
    else:
        what = f"{CALLED[kind]} that cannot be decoded"
    return ImageError(what, where=printable(name), got=printable(reason), do=_remedy(kind))


def _remedy(kind: str) -> str:
    return CONVERT_HEIC if kind == "HEIC" else CONVERT


def check_readable(kind: KindName, name: str) -> None:
    """Refuse a format whose decoder is not installed, and say which is missing.

    Raises:
        ImageError: it is not.
    """
    if kind == "HEIC" and find_spec("pillow_heif") is None:
        do = f"pip install 'opsin[photos]'; or {CONVERT_HEIC}"
        raise ImageError("a HEIC photo: the extra `photos` is missing to read it", where=printable(name), do=do)
    if kind == "AVIF" and not features.check("avif"):
        do = "pip install --upgrade pillow; or convert it to JPEG"
        raise ImageError("an AVIF picture: this Pillow was built without AVIF", where=printable(name), do=do)


POOL = DecoderPool()
"""The processes of this program."""
