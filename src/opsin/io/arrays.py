"""Arrays from files: NumPy's .npy and .npz, IDX (MNIST), and the records of CIFAR's binary releases.

Nothing is unpickled. A header is believed only as far as the file's length bears it out, so a header that claims more
than the file holds costs no memory.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy_format

from opsin.arrays import Array
from opsin.errors import ArrayError
from opsin.io.files import PathLike, write_atomically
from opsin.io.gate import MEBIBYTE, check_size, first_bytes, open_regular, printable, refusing

MAX_ARRAY_BYTES = 64 * 1024 * MEBIBYTE
MAX_RATIO = 100
RATIO_FREE_BYTES = 64 * MEBIBYTE
"""Compressed arrays may expand to this size at any ratio: sorted labels compress a thousandfold."""
MAX_MEMBERS = 1000
MAX_DIMENSIONS = 32
READ_BYTES = 8 * MEBIBYTE

IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CIFAR_PIXEL_BYTES = 3 * 32 * 32


def read_npy(path: PathLike, max_bytes: int = MAX_ARRAY_BYTES) -> np.ndarray:
    """The array in a .npy file, in the machine's byte order.

    Raises:
        ArrayError: no .npy file; Python objects in it; a shape that the file's length does not bear out.
    """
    with open_regular(path, ArrayError) as (file, size):
        check_size(size, max_bytes, path, ArrayError)
        with refusing(ArrayError, path, "not a readable .npy file"):
            return _read_npy_stream(file, size, path)


def read_npz(path: PathLike, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name, in the file's order and the machine's byte order.

    Raises:
        ArrayError: no .npz file; a member that is not an array or is given twice; Python objects; a shape that the
            member's length does not bear out; more than `max_bytes`, or 64 MiB at a ratio above 100, when unpacked.
    """
    with (
        open_regular(path, ArrayError) as (file, size),
        refusing(ArrayError, path, "not a readable .npz file"),
        zipfile.ZipFile(file) as archive,
    ):
        members = archive.infolist()
        _check_members(members, size, path, max_bytes)
        arrays = {}
        for member in members:
            with archive.open(member) as stream:
                name = member.filename.removesuffix(".npy")
                arrays[name] = _read_npy_stream(stream, member.file_size, f"{path}:{name}")
        return arrays


def _check_members(members: list[zipfile.ZipInfo], size: int, path: PathLike, max_bytes: int) -> None:
    names = [member.filename for member in members]
    total = sum(member.file_size for member in members)
    where = printable(path)
    if not names or len(names) > MAX_MEMBERS:
        raise ArrayError("wrong number of arrays", where=where, got=len(names), expected=f"1 to {MAX_MEMBERS}")
    if len(set(names)) < len(names):
        raise ArrayError(
            "an array is given twice",
            where=where,
            got=printable(names)[:300],
            do="write the file again with `numpy.savez`",
        )
    for name in names:
        if not name.endswith(".npy"):
            raise ArrayError(
                "a member is not an array", where=where, got=printable(name), expected="names ending in .npy"
            )
    if total > max_bytes:
        raise ArrayError("too large when unpacked", where=where, got=f"{total} bytes", expected=f"at most {max_bytes}")
    if total > RATIO_FREE_BYTES and total > MAX_RATIO * size:
        expected = f"at most {MAX_RATIO} times its size"
        raise ArrayError("expands suspiciously", where=where, got=f"{size} bytes hold {total}", expected=expected)


def _read_npy_stream(stream: IO[bytes], size: int, name: object) -> np.ndarray:
    """One array from a stream of `size` bytes."""
    version = npy_format.read_magic(stream)
    readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    if version not in readers:
        raise ArrayError("unknown version of .npy", where=printable(name), got=version, expected="1.0 or 2.0")
    shape, fortran, dtype = readers[version](stream)
    _check_dtype(dtype, name)
    header = stream.tell()
    array = _read_exactly(stream, tuple(shape), dtype, size - header, name)
    if fortran:
        array = array.reshape(shape[::-1]).transpose()
    return array


def _check_dtype(dtype: np.dtype, name: object) -> None:
    if dtype.hasobject:
        do = "save plain numbers or text, e.g. images.astype('uint8'), labels.astype('int64') or labels.astype('str')"
        raise ArrayError("an array of Python objects", where=printable(name), got=dtype, expected="numbers", do=do)
    if dtype.kind not in "biufSU" or dtype.names is not None or dtype.subdtype is not None:
        raise ArrayError("an array of a refused type", where=printable(name), got=dtype, expected="numbers or text")


def _read_exactly(
    stream: IO[bytes],
    shape: tuple[int, ...],
    dtype: np.dtype,
    available: int,
    name: object,
) -> np.ndarray:
    """An array that is all of the rest of the stream, `available` bytes. Memory is touched only as bytes arrive."""
    if any(n < 0 for n in shape) or len(shape) > MAX_DIMENSIONS:
        raise ArrayError("impossible shape", where=printable(name), got=shape, expected="sides of 0 or more")
    needed = math.prod(shape) * dtype.itemsize
    if needed != available:
        got = f"{available} bytes of data"
        expected = f"{needed} bytes for shape {shape} of {dtype}"
        raise ArrayError("shape and length disagree", where=printable(name), got=got, expected=expected)
    flat = np.empty(needed, dtype=np.uint8)
    filled = 0
    while filled < needed:
        block = stream.read(min(READ_BYTES, needed - filled))
        if not block:
            raise ArrayError("the file is cut off", where=printable(name), got=f"{filled} bytes", expected=needed)
        flat[filled : filled + len(block)] = np.frombuffer(block, np.uint8)
        filled += len(block)
    if stream.read(1):
        raise ArrayError("bytes after the array", where=printable(name), expected=f"{needed} bytes")
    array = flat.view(dtype).reshape(shape) if dtype.itemsize else np.zeros(shape, dtype)
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_idx(path: PathLike, max_bytes: int = MAX_ARRAY_BYTES) -> np.ndarray:
    """The array in an IDX file (MNIST's format), plain or gzipped, told by its first bytes.

    Source: http://yann.lecun.com/exdb/mnist, "The IDX file format".

    Raises:
        ArrayError: no IDX file; cut off, too long or damaged.
    """
    zipped = first_bytes(path, ArrayError, 2) == b"\x1f\x8b"
    with open_regular(path, ArrayError) as (file, size), refusing(ArrayError, path, "not a readable IDX file"):
        check_size(size, max_bytes, path, ArrayError)
        if not zipped:
            return _read_idx_stream(file, size, path, max_bytes)
        with gzip.GzipFile(fileobj=file) as stream:
            return _read_idx_stream(
                cast("IO[bytes]", stream), None, path, min(max_bytes, max(RATIO_FREE_BYTES, MAX_RATIO * size))
            )


def _read_idx_stream(stream: IO[bytes], size: int | None, path: PathLike, limit: int) -> np.ndarray:
    """One IDX array; `size` is None where the length of the stream is not known before its end."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_DTYPES or not 1 <= magic[3] <= 8:
        expected = "two zero bytes, a type code, 1 to 8 dimensions"
        raise ArrayError("not an IDX file", where=printable(path), got=magic.hex(" "), expected=expected)
    num_dimensions = magic[3]
    shape = struct.unpack(f">{num_dimensions}I", stream.read(4 * num_dimensions))
    dtype = np.dtype(IDX_DTYPES[magic[2]])
    needed = math.prod(shape) * dtype.itemsize
    if needed > limit:
        raise ArrayError("too large", where=printable(path), got=f"shape {shape}", expected=f"at most {limit} bytes")
    available = needed if size is None else size - 4 - 4 * num_dimensions
    return _read_exactly(stream, shape, dtype, available, path)


def read_cifar(path: PathLike, *, num_label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one file of CIFAR's binary release.

    Args:
        num_label_bytes: 1 for CIFAR-10, 2 (coarse, fine) for CIFAR-100.

    Returns:
        images uint8 [N, 3, 32, 32], RGB; labels uint8 [N, num_label_bytes].

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

    Raises:
        ArrayError: a pickle of the Python release; a length that is not a whole number of records.
    """
    _refuse_pickle(path)
    record = num_label_bytes + CIFAR_PIXEL_BYTES
    with open_regular(path, ArrayError) as (file, size):
        if size % record:
            got, expected = f"{size} bytes", f"a multiple of {record}"
            raise ArrayError("not a whole number of CIFAR records", where=printable(path), got=got, expected=expected)
        with refusing(ArrayError, path):
            records = _read_exactly(file, (size // record, record), np.dtype(np.uint8), size, path)
    images = np.ascontiguousarray(records[:, num_label_bytes:]).reshape(-1, 3, 32, 32)
    return images, np.ascontiguousarray(records[:, :num_label_bytes])


def _refuse_pickle(path: PathLike) -> None:
    """Refuse the Python release: pickles start with 0x80, or `(dp` (protocol 0). No CIFAR label is that high."""
    start = first_bytes(path, ArrayError, 3)
    if start[:1] == b"\x80" or start[:3] == b"(dp" or start[:1] in (b"}", b"]"):
        do = "get the binary release: cifar-10-binary.tar.gz or cifar-100-binary.tar.gz"
        raise ArrayError("a pickle: it can run code when read", where=printable(path), expected="CIFAR records", do=do)


def write_npz(path: PathLike, arrays: Mapping[str, Array]) -> None:
    """Write named arrays as one compressed .npz file, whole; none of them may hold objects, which would be pickled.

    Raises:
        WriteError: it cannot be written.
    """
    buffer = io.BytesIO()
    # numpy before 2.2 takes `allow_pickle` for the name of an array
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **named)
    write_atomically(path, buffer.getvalue())
