"""Pictures that are sent to the studio: checked, and kept under names of its own in its folder.

A set is gathered under a temporary name and gets its own when it is finished, so that what is listed is whole. Neither
names of files nor paths of a client are used: classes become plain folder names, pictures numbers.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from opsin.errors import ImageError
from opsin.io.files import write_atomically, writing
from opsin.io.images import decode_image, format_of
from opsin.io.temporary import temporary_beside
from opsin.server.body import Upload, read_uploads
from opsin.server.limits import Limits
from opsin.server.refusal import RequestError
from opsin.studio.labelled import CLASS_NAME
from opsin.studio.pages import Form, posted
from opsin.studio.sets import slug
from opsin.studio.state import Studio, studio_of
from opsin.text import printable
from opsin.units import bytes_text

LIMITS = Limits(max_bytes=64 << 20, max_images=64, timeout_s=120.0)
"""Of one request with pictures."""
MAX_PICTURES = 20_000
MAX_BYTES = 4 << 30
"""Of one set."""
MAX_CLASSES = 1_000
MAX_OPEN = 8
"""Sets that are being gathered at the same time."""


@dataclass(eq=False)
class Gathering:
    """A set that is being sent: its folder, its name, and what has come by now."""

    folder: Path
    name: str
    classes: dict[str, str] = field(default_factory=dict)
    num_pictures: int = 0
    num_bytes: int = 0
    lock: Lock = field(default_factory=Lock)

    def folder_of(self, label: str) -> Path:
        """The folder of a class.

        Raises:
            RequestError: 400 no class, 413 too many.
        """
        if label not in self.classes:
            if not label.strip():
                do = "put the pictures of each class into a folder of its own"
                raise RequestError(400, "pictures without a class", do=do)
            if len(self.classes) >= MAX_CLASSES:
                raise RequestError(413, "too many classes", expected=f"at most {MAX_CLASSES:,}")
            taken = {name.casefold() for name in self.classes.values()}
            stem = label.strip() if CLASS_NAME.fullmatch(label.strip()) else slug(label)
            names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
            self.classes[label] = next(name for name in names if name.casefold() not in taken)
        return self.folder / self.classes[label]

    def keep(self, label: str, upload: Upload) -> None:
        """Check a picture, and write it as the next of its class.

        Raises:
            ImageError: it is none that Opsin reads.
            RequestError: 413, the set is full.
        """
        decode_image(upload.data, upload.name)
        suffix = f".{format_of(upload.data, upload.name).lower()}"
        with self.lock:
            folder = self.folder_of(label)
            self.num_pictures, self.num_bytes = self.num_pictures + 1, self.num_bytes + len(upload.data)
            if self.num_pictures > MAX_PICTURES or self.num_bytes > MAX_BYTES:
                expected = f"at most {MAX_PICTURES:,} pictures and {bytes_text(MAX_BYTES)}"
                raise RequestError(413, "the set is full", expected=expected)
            number = self.num_pictures
        with writing(folder):
            folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{number:05}{suffix}", upload.data)


def begin(request: Request, form: Form) -> Response:
    """Begin a set of some name: its id."""
    studio = studio_of(request)
    if len(studio.gathered) >= MAX_OPEN:  # left by pages that were closed
        _drop(studio, next(iter(studio.gathered)))
    uploads = studio.sets.uploads
    name = slug(form.get("name", ""))
    folder = temporary_beside(uploads / name)
    with writing(folder):
        folder.mkdir(parents=True)
    key = secrets.token_hex(8)
    studio.gathered[key] = Gathering(folder=folder, name=name)
    return JSONResponse({"id": key})


async def add(request: Request) -> Response:
    """Add pictures to a class: which of them were refused, and why."""
    try:
        async with asyncio.timeout(LIMITS.timeout_s):
            gathering = _gathering(request)
            uploads = await read_uploads(request, LIMITS)
            label = request.query_params.get("class", "")[:200]
            return await run_in_threadpool(_keep_all, gathering, label, uploads)
    except TimeoutError as error:
        raise RequestError(408, "the request took too long", expected=f"at most {LIMITS.timeout_s:g} s") from error


def _keep_all(gathering: Gathering, label: str, uploads: list[Upload]) -> Response:
    refused = []
    for upload in uploads:
        try:
            gathering.keep(label, upload)
        except ImageError as error:
            refused.append(f"{printable(upload.name)[:100]}: {error.what}")
    return JSONResponse({"kept": len(uploads) - len(refused), "refused": refused})


def finish(request: Request, form: Form) -> Response:
    """Give the set its name: its key among the data sets."""
    studio, gathering = studio_of(request), _gathering(request)
    if not gathering.num_pictures:
        raise RequestError(
            400, "a set without pictures", expected="JPEG, PNG, WEBP, BMP, GIF, PPM, PGM, TIFF, AVIF or HEIC"
        )
    with studio.lock:
        names = (gathering.name if number == 1 else f"{gathering.name}-{number}" for number in count(1))
        name = next(name for name in names if not (studio.sets.uploads / name).exists())
        with writing(studio.sets.uploads / name):
            gathering.folder.rename(studio.sets.uploads / name)
    studio.gathered.pop(request.path_params["id"], None)
    return JSONResponse({"key": f"own-{name}"})


def _gathering(request: Request) -> Gathering:
    found = studio_of(request).gathered.get(request.path_params["id"])
    if found is None:
        raise RequestError(404, "no such set is being sent", do="begin again")
    return found


def _drop(studio: Studio, key: str) -> None:
    gathering = studio.gathered.pop(key)
    shutil.rmtree(gathering.folder, ignore_errors=True)


begin_set = posted(begin)
finish_set = posted(finish)
