"""Arrays: what is read, and what is refused."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzzing import zip_of

from opsin.errors import ArrayError
from opsin.io.arrays import read_cifar, read_idx, read_npy, read_npz


def npy(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npy_with_header(header: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode()
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + body


def header_of(shape: str, descr: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def idx(shape: tuple[int, ...], body: bytes, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


def put(folder: Path, data: bytes) -> Path:
    path = folder / "file.bin"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array(["a", "bb"]),
        np.array([b"x"]),
        np.array(5),
        np.zeros((0, 3)),
        np.array([True, False]),
    ],
    ids=lambda a: f"{a.dtype.str}{list(a.shape)}",
)
def test_npy_gives_what_numpy_saved_in_native_order(array: np.ndarray, tmp_path: Path) -> None:
    found = read_npy(put(tmp_path, npy(array)))
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    assert found.flags.writeable


def test_npz_gives_all_arrays_by_name(tmp_path: Path) -> None:
    images, labels = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2), np.array([3])
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "set.npz", images=images, labels=labels)
        found = read_npz(tmp_path / "set.npz")
        assert list(found) == ["images", "labels"]
        assert np.array_equal(found["images"], images)
        assert np.array_equal(found["labels"], labels)


def test_well_compressed_labels_are_no_bomb(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 50_000)
    np.savez_compressed(tmp_path / "set.npz", labels=labels)
    assert (tmp_path / "set.npz").stat().st_size * 100 < labels.nbytes
    assert np.array_equal(read_npz(tmp_path / "set.npz")["labels"], labels)


OBJECTS = npy(np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
BAD_NPY = {
    "empty": b"",
    "magic alone": b"\x93NUMPY",
    "version 9": npy_with_header(header_of("(1,)"), b"x", b"\x09\0"),
    "python objects": OBJECTS,
    "objects inside a record": npy_with_header(header_of("(1,)", "[('a', '|O')]"), bytes(8)),
    "a record": npy_with_header(header_of("(1,)", "[('a', '<i4')]"), bytes(4)),
    "dates": npy(np.array(["2020-01-01"], dtype="datetime64[D]")),
    "complex numbers": npy(np.array([1j])),
    "raw void": npy(np.zeros(2, dtype="V4")),
    "shape of 2**40 bytes": npy_with_header(header_of(f"({2**40},)"), b"abc"),
    "shape beyond 64 bits": npy_with_header(header_of(f"({2**62}, {2**62})"), b"abc"),
    "negative side": npy_with_header(header_of("(-1,)"), b"abc"),
    "two negative sides": npy_with_header(header_of("(-1, -3)"), b"abc"),
    "too many sides": npy_with_header(header_of("(" + "1," * 70 + ")"), b"a"),
    "zero times huge": npy_with_header(header_of(f"(0, {2**63})"), b""),
    "sides that are floats": npy_with_header(header_of("(1.5,)"), b"ab"),
    "a header that is code": npy_with_header("__import__('os').system('true')"),
    "a header with a missing key": npy_with_header("{'descr': '|u1'}"),
    "a deep header": npy_with_header("(" * 5000),
    "a header of a gigabyte": b"\x93NUMPY\2\0" + struct.pack("<I", 2**30) + b"{",
    "one byte short": npy(np.arange(9))[:-1],
    "one byte long": npy(np.arange(9)) + b"\0",
    "an npz": zip_of({"a.npy": npy(np.arange(3))}),
}


@pytest.mark.parametrize("name", BAD_NPY)
def test_malformed_npy_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArrayError):
        read_npy(put(tmp_path, BAD_NPY[name]))


@pytest.mark.parametrize("name", [n for n in BAD_NPY if n != "an npz"])
def test_malformed_npy_is_refused_inside_npz(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArrayError):
        read_npz(put(tmp_path, zip_of({"a.npy": BAD_NPY[name]})))


def twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", npy(np.arange(2)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", npy(np.arange(2)))
    return buffer.getvalue()


def lying_length() -> bytes:
    """A deflated member of 10 bytes that claims a gigabyte, in its npy header and in the zip's directory."""
    body = npy_with_header(header_of(f"({2**30},)"), bytes(10))
    data = bytearray(zip_of({"a.npy": body}))
    directory = data.index(b"PK\1\2")
    data[directory + 24 : directory + 28] = (len(body) - 10 + 2**30).to_bytes(4, "little")
    return bytes(data)


BAD_NPZ: dict[str, Callable[[], bytes]] = {
    "empty zip": lambda: zip_of({}),
    "no zip": lambda: b"not a zip at all",
    "a member that is no array": lambda: zip_of({"a.npy": npy(np.arange(2)), "run.pkl": b"\x80\4."}),
    "a member twice": twice,
    "a length that lies": lying_length,
    "too many members": lambda: zip_of({f"{i}.npy": b"" for i in range(1001)}),
    "a bomb": lambda: zip_of({"a.npy": npy(np.zeros(65 * 2**20, dtype=np.uint8))}),
    "cut off": lambda: zip_of({"a.npy": npy(np.arange(99))})[:-40],
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_malformed_npz_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArrayError):
        read_npz(put(tmp_path, BAD_NPZ[name]()))


def test_a_damaged_npz_member_is_refused_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(zip_of({"a.npy": npy(np.arange(99, dtype=np.uint8))}, zipfile.ZIP_STORED))
    data[200] ^= 1
    with pytest.raises(ArrayError, match="CRC"):
        read_npz(put(tmp_path, bytes(data)))


def test_the_size_limit_holds_for_unpacked_arrays(tmp_path: Path) -> None:
    path = put(tmp_path, zip_of({"a.npy": npy(np.zeros(5000, dtype=np.uint8))}))
    with pytest.raises(ArrayError, match="too large"):
        read_npz(path, max_bytes=4000)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_idx_gives_each_type_in_native_order(
    pack: Callable[[bytes], bytes], code: int, dtype: str, tmp_path: Path
) -> None:
    values = np.arange(6, dtype=dtype).reshape(2, 3)
    data = idx((2, 3), values.astype(values.dtype.newbyteorder(">")).tobytes(), code)
    found = read_idx(put(tmp_path, pack(data)))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, values)


BAD_IDX = {
    "empty": b"",
    "magic alone": b"\0\0\x08",
    "unknown type": idx((2,), b"ab", 7),
    "no dimensions": b"\0\0\x08\0",
    "nine dimensions": idx((1,) * 9, b"a"),
    "cut dimensions": b"\0\0\x08\3\0\0\0\1",
    "one byte short": idx((2, 3), bytes(5)),
    "one byte long": idx((2, 3), bytes(7)),
    "shape bomb": idx((2**32 - 1,) * 8, bytes(7)),
    "claims 2 GiB": idx((2**31,), bytes(7)),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(99),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("name", BAD_IDX)
def test_malformed_idx_is_refused(pack: Callable[[bytes], bytes], name: str, tmp_path: Path) -> None:
    with pytest.raises(ArrayError):
        read_idx(put(tmp_path, pack(BAD_IDX[name])))


@pytest.mark.parametrize("cut", [1, 5, 8, 12, 20])
def test_a_cut_gzip_is_refused(cut: int, tmp_path: Path) -> None:
    with pytest.raises(ArrayError):
        read_idx(put(tmp_path, gzip.compress(idx((4, 50), bytes(range(200))))[:-cut]))


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(idx((2**27,), bytes(2**20)), 1)
    with pytest.raises(ArrayError, match="too large"):
        read_idx(put(tmp_path, bomb))


@pytest.mark.parametrize("num_label_bytes", [1, 2])
def test_cifar_records_are_split_into_images_and_labels(num_label_bytes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 20, (4, num_label_bytes), dtype=np.uint8)
    data = b"".join(labels[i].tobytes() + images[i].tobytes() for i in range(4))
    found_images, found_labels = read_cifar(put(tmp_path, data), num_label_bytes=num_label_bytes)
    assert np.array_equal(found_images, images)
    assert np.array_equal(found_labels, labels)
    assert found_images.flags.c_contiguous


# The first bytes of protocols 0, 2, 3, 4 and 5, padded to a whole number of records.
@pytest.mark.parametrize("start", [b"(dp1\n", b"\x80\2}q\1(U", b"\x80\3}q\0", b"\x80\4\x95\0", b"\x80\5\x95"])
def test_cifar_pickles_are_refused_and_the_binary_release_named(start: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match="binary release"):
        read_cifar(put(tmp_path, start.ljust(3073, b"\0")), num_label_bytes=1)


@pytest.mark.parametrize("length", [0, 1, 3072, 3074])
def test_cifar_files_of_another_length_are_refused(length: int, tmp_path: Path) -> None:
    with pytest.raises(ArrayError):
        read_cifar(put(tmp_path, bytes(length)), num_label_bytes=1)
