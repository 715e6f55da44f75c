"""The page beside an ONNX file: it runs the file in the browser by ONNX Runtime's own files, which lie in `ort/`.

They take 14 MB, so the wheel does not carry them: the user fetches the package once with npm, and names it.
"""

from __future__ import annotations

import hashlib
import tempfile
from importlib import resources
from pathlib import Path

from opsin.errors import InputError
from opsin.io.archives import ArchiveLimits, extract
from opsin.io.files import write_atomically
from opsin.io.gate import MEBIBYTE, read_bytes

FILES = ("index.html", "page.css", "fit.js", "upright.js", "deep.js", "page.js")
RUNTIME_FOLDER = "ort"
VERSION = "1.30.0"
"""Of onnxruntime-web (MIT), with which the page was tried."""
RUNTIME = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of the files of that version that the page loads."""
FETCH = f"npm pack onnxruntime-web@{VERSION}"
HINT = "ort.txt"
"""What the page shows while it has no runtime."""
MAX_BYTES = 64 * MEBIBYTE
PACKAGE_LIMITS = ArchiveLimits(max_bytes=512 * MEBIBYTE)


def write_page(folder: Path, runtime: Path | None = None) -> None:
    """Write the page into the folder of an ONNX file and its contract.

    Args:
        runtime: the package onnxruntime-web, as `npm pack` gives it or unpacked, to be copied into `ort/`.

    Raises:
        InputError: `runtime` lacks a file, or one is not that of the version that was tried.
        ArchiveError: it is no whole archive.
    """
    for name in FILES:
        write_atomically(folder / name, resources.files("opsin.exports").joinpath("page", name).read_bytes())
    if runtime is None:
        members = " ".join(f"package/dist/{name}" for name in RUNTIME)
        unpack = f"tar -xzf onnxruntime-web-{VERSION}.tgz --strip-components=2 -C {RUNTIME_FOLDER} {members}"
        write_atomically(folder / HINT, f"{FETCH} && mkdir {RUNTIME_FOLDER} && {unpack}\n".encode())
        return
    (folder / RUNTIME_FOLDER).mkdir()
    for name, data in runtime_files(runtime).items():
        write_atomically(folder / RUNTIME_FOLDER / name, data)


def runtime_files(package: Path) -> dict[str, bytes]:
    """The files of onnxruntime-web that the page loads, by name; `package` as in `write_page`.

    Raises:
        InputError, ArchiveError: as `write_page`.
    """
    if package.is_dir():
        return _checked_files(package)
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch) / "unpacked"
        extract(package, unpacked, PACKAGE_LIMITS)
        return _checked_files(unpacked)


def _checked_files(folder: Path) -> dict[str, bytes]:
    """The files in `folder`, in its `dist` or in `package/dist`."""
    places = [folder / inner for inner in ("package/dist", "dist", ".")]
    place = next((place for place in places if (place / next(iter(RUNTIME))).is_file()), folder)
    return {name: _checked(place / name, sha256) for name, sha256 in RUNTIME.items()}


def _checked(path: Path, sha256: str) -> bytes:
    data = read_bytes(path, InputError, MAX_BYTES)
    if (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise InputError(
            "not the file of the version that the page was tried with",
            where=path,
            got=f"SHA-256 {got}",
            expected=f"onnxruntime-web {VERSION}: {sha256}",
            do=f"{FETCH}, and name the .tgz that it leaves",
        )
    return data
