"""Archives: unpacked whole, or not at all and nowhere else."""

import errno
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing import archive_seeds, tar_of, zip_of

from opsin.errors import ArchiveError, WriteError
from opsin.io.archives import ArchiveLimits, extract
from opsin.io.walking import walk_files

SEEDS = {seed.name: seed.data for seed in archive_seeds()}
BAD_NAMES = [
    "../evil",
    "a/../../evil",
    "/etc/evil",
    "//evil",
    "..",
    "a\\..\\..\\evil",
    "..\\evil",
    "C:/evil",
    "c:evil",
    "\\\\server\\share",
    "new\nline",
    "bell\a",
    "a" * 256,
    "/".join("abcdefghij" * 20),
    "deep/" * 70 + "x",
    ".",
    "./",
    "../",
]


def put(folder: Path, data: bytes) -> Path:
    path = folder / "archive"
    path.write_bytes(data)
    return path


def refuse(folder: Path, data: bytes) -> str:
    """Extract, expect a refusal, and check that nothing but the archive is there."""
    path = put(folder, data)
    with pytest.raises(ArchiveError) as caught:
        extract(path, folder / "into")
    assert [p.name for p in folder.iterdir()] == ["archive"]
    return str(caught.value)


def tar_with(kind: bytes, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("first"))
        member = tarfile.TarInfo("second")
        member.type, member.linkname = kind, link
        archive.addfile(member)
    return buffer.getvalue()


def zip_with_mode(mode: int) -> bytes:
    buffer = io.BytesIO()
    member = zipfile.ZipInfo("link")
    member.external_attr = mode << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize("name", SEEDS)
def test_every_kind_is_unpacked_whole(name: str, tmp_path: Path) -> None:
    extract(put(tmp_path, SEEDS[name]), tmp_path / "into")
    found = {p.relative_to(tmp_path / "into").as_posix(): p.read_bytes() for p in walk_files(tmp_path / "into")}
    assert found == {"a.txt": b"hello\n" * 40, "folder/b.bin": bytes(range(256)), "folder/" + "long" * 40: b"x"}


def test_folders_and_a_leading_dot_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "source" / "empty").mkdir(parents=True)
    (tmp_path / "source" / "a").write_text("1")
    with tarfile.open(tmp_path / "archive", "w:gz") as archive:
        archive.add(tmp_path / "source", ".")
    extract(tmp_path / "archive", tmp_path / "into")
    assert sorted(p.name for p in (tmp_path / "into").iterdir()) == ["a", "empty"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leaves_the_folder_refuses_the_zip(name: str, tmp_path: Path) -> None:
    refuse(tmp_path, zip_of({"good": b"1", name: b"2"}))


@pytest.mark.parametrize("name", [n for n in BAD_NAMES if n not in (".", "./")])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_a_name_that_leaves_the_folder_refuses_the_tar(name: str, form: int, tmp_path: Path) -> None:
    refuse(tmp_path, tar_of({"good": b"1", name: b"2"}, form=form))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE],
    ids=["symlink", "hard link", "pipe", "character device", "block device"],
)
def test_links_and_devices_refuse_the_tar(kind: bytes, tmp_path: Path) -> None:
    assert "link or a device" in refuse(tmp_path, tar_with(kind, "first"))


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_refuse_the_zip(mode: int, tmp_path: Path) -> None:
    assert "link or a device" in refuse(tmp_path, zip_with_mode(mode))


def test_a_sparse_member_refuses_the_tar(tmp_path: Path) -> None:
    data = bytearray(tar_of({"a": bytes(512)}, form=tarfile.GNU_FORMAT))
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[483:495] = b"77777777777\0"  # a real size of 8 GiB
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    refuse(tmp_path, bytes(data))


def test_an_encrypted_member_refuses_the_zip(tmp_path: Path) -> None:
    data = bytearray(SEEDS["zip"])
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + offset] |= 1
    assert "encrypted" in refuse(tmp_path, bytes(data))


@pytest.mark.parametrize(
    "members", [{"a": b"1", "./a": b"2"}, {"a": b"1", "a/b": b"2"}, {"a/b": b"1", "a": b"2"}], ids=str
)
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_members_that_collide_refuse_the_archive(
    members: dict[str, bytes], make: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    assert "given twice" in refuse(tmp_path, make(members))


def tar_bomb(mode: str) -> bytes:
    return tar_of({"zeros": bytes(2**22)}, mode)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_tar_bomb_is_refused(mode: str, tmp_path: Path) -> None:
    assert "expands suspiciously" in refuse(tmp_path, tar_bomb(mode))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    assert "expands suspiciously" in refuse(tmp_path, zip_of({"zeros": bytes(2**22)}))


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of({"zeros": bytes(2**22)}))
    for magic, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = data.index(magic) + offset
        data[start : start + 4] = (1000).to_bytes(4, "little")
    refuse(tmp_path, bytes(data))


def test_a_tar_of_endless_headers_is_refused(tmp_path: Path) -> None:
    data = bytearray(tar_of({"a" * 200: b""}, form=tarfile.GNU_FORMAT))
    data[124:136] = b"77777777777\0"  # a long name of 8 GiB
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    refuse(tmp_path, bytes(data))


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.97])
def test_a_cut_archive_leaves_nothing(name: str, share: float, tmp_path: Path) -> None:
    data = SEEDS[name].rstrip(b"\0") if name in ("tar", "tar-gnu") else SEEDS[name]
    refuse(tmp_path, data[: int(len(data) * share)])


def test_a_damaged_header_in_the_middle_of_a_tar_is_refused(tmp_path: Path) -> None:
    data = bytearray(tar_of({"a": b"1", "b": b"2"}))
    data[1024 + 5] ^= 0xFF  # in the name of "b"; tarfile takes this for the end of the archive
    assert "cut off or damaged" in refuse(tmp_path, bytes(data))


@pytest.mark.parametrize("data", [b"", b"PK\5\6" + bytes(18), bytes(1024), b"text", b"\x1f\x8b", b"Rar!\x1a\7\0"])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    if data.startswith(b"PK"):
        extract(put(tmp_path, data), tmp_path / "into")  # an empty zip is whole
        assert list((tmp_path / "into").iterdir()) == []
    else:
        refuse(tmp_path, data)


@pytest.mark.parametrize("limits", [ArchiveLimits(max_members=2), ArchiveLimits(ratio_free_bytes=0, max_ratio=0)])
@pytest.mark.parametrize("name", ["zip", "tar-gz"])
def test_limits_can_be_set(limits: ArchiveLimits, name: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        extract(put(tmp_path, SEEDS[name]), tmp_path / "into", limits)
    assert not (tmp_path / "into").exists()


def test_a_taken_folder_is_refused_and_an_empty_one_filled(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    extract(put(tmp_path, SEEDS["zip"]), tmp_path / "into")
    with pytest.raises(WriteError, match="exists"):
        extract(tmp_path / "archive", tmp_path / "into")


@pytest.mark.parametrize("at", range(3))
def test_a_full_disk_is_a_write_error_and_leaves_nothing(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, count = put(tmp_path, SEEDS["tar-gz"]), os.fsync, iter(range(99))

    def full(handle: int) -> None:
        if next(count) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space"):
        extract(path, tmp_path / "into")
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]
