"""Random mutation of each reader's input: `scripts/fuzz [target] [--seconds N] [--seed S]`.

A crash is any exception that is not an `InputError`, a case of more than 2 seconds (30 with a process of its own), or
growth of this process by more than 256 MiB. The input of each crash is kept, and its path printed; it becomes a test.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import resource
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from opsin.data.readers import coco_masks
from opsin.errors import InputError
from opsin.io import archives, arrays, files, images, tables, yaml_files

MAX_SECONDS = 2.0
MAX_GROWTH_BYTES = 256 * 2**20
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFF0, 2**63 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Seed:
    """A well-formed input and the reader for it."""

    name: str
    data: bytes
    read: Callable[[Path], Any]
    max_seconds: float = MAX_SECONDS


@dataclass
class Outcome:
    """What a round of fuzzing came to."""

    cases: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)


def photo(width: int = 24, height: int = 20) -> Image.Image:
    """A small colour image with structure and noise."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, width)[None, :, None] + rng.integers(0, 50, (height, width, 3))
    return Image.fromarray(ramp.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as a file of format `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif_block(orientation: int) -> bytes:
    """An EXIF block with nothing but an orientation, as Pillow's `exif=` takes it."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def image_seeds() -> list[Seed]:
    """One or more files of each format and mode."""
    rgb = photo()
    frames = [rgb.rotate(90 * k) for k in range(3)]
    made = {
        "jpeg": encoded(rgb, "JPEG", exif=exif_block(6)),
        "jpeg-progressive": encoded(rgb, "JPEG", progressive=True),
        "jpeg-cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "png": encoded(rgb, "PNG"),
        "png-palette": encoded(rgb.quantize(16), "PNG", transparency=3),
        "png-16": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160), "PNG"),
        "png-animated": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "png-alpha": encoded(rgb.convert("RGBA"), "PNG", exif=exif_block(3)),
        "webp": encoded(rgb, "WEBP"),
        "webp-lossless": encoded(rgb.convert("RGBA"), "WEBP", lossless=True, exif=exif_block(8)[6:]),
        "webp-animated": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "bmp": encoded(rgb, "BMP"),
        "bmp-palette": encoded(rgb.quantize(16), "BMP"),
        "gif": encoded(rgb, "GIF"),
        "gif-animated": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "ppm": encoded(rgb, "PPM"),
        "pgm-plain": b"P2\n# plain\n4 3\n255\n" + b" ".join(b"%d" % (20 * i) for i in range(12)) + b"\n",
        "pgm-16": b"P5 4 3 65535\n" + bytes(range(24)),
    }
    seeds = [Seed(name, data, images.read_image) for name, data in made.items()]
    mask = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10) % 21).convert("P")
    return [*seeds, Seed("mask", encoded(mask, "PNG"), images.read_mask)]


def photo_seeds() -> list[Seed]:
    """Formats whose decoders run in a process of their own; starting one takes its time."""
    rgb, deep = photo(), Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160)
    made = {
        "tiff": encoded(rgb, "TIFF"),
        "tiff-16": encoded(deep, "TIFF"),
        "tiff-deflate": encoded(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-lzw": encoded(rgb.quantize(16), "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff-pages": encoded(rgb, "TIFF", save_all=True, append_images=[rgb, rgb]),
    }
    if features.check("avif"):
        made["avif"] = encoded(rgb, "AVIF")
    if find_spec("pillow_heif"):
        import pillow_heif

        buffer = io.BytesIO()
        pillow_heif.from_pillow(photo(64, 48)).save(buffer)
        made["heic"] = buffer.getvalue()
    return [Seed(name, data, images.read_image, 30.0) for name, data in made.items()]


def parquet_seeds() -> list[Seed]:
    """Parquet with image bytes; none without pyarrow."""
    if not find_spec("pyarrow"):
        return []
    import pyarrow as pa
    from pyarrow import parquet

    from opsin.io.parquet_files import read_stored_images

    table = pa.table({"image": [{"bytes": encoded(photo(), "PNG"), "path": "a"}] * 3, "label": [0, 1, 0]})
    seeds = []
    for compression in ("none", "snappy", "zstd"):
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression=compression)
        seeds.append(Seed(f"parquet-{compression}", buffer.getvalue(), lambda path: list(read_stored_images(path))))
    return seeds


def _draw(path: Path) -> Any:
    counts = path.read_text("latin-1")
    return coco_masks.Drawn(name=path.name, size=(4, 5), shapes=((1, {"counts": counts}),)).draw(4, 5)


def array_seeds() -> list[Seed]:
    """.npy, .npz, IDX and CIFAR files."""
    values = np.arange(60, dtype=np.int64).reshape(5, 4, 3)
    npy, npz, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.asfortranarray(values.astype(">f4")))
    np.savez(npz, images=values.astype(np.uint8), labels=np.array(["a", "bb"]))
    np.savez_compressed(packed, images=values, more=np.zeros(0))
    idx = b"\0\0\x08\x03" + struct.pack(">3I", 5, 4, 3) + bytes(range(60))
    cifar = b"".join(bytes([label]) + bytes(range(256)) * 12 for label in range(2))
    return [
        Seed("npy", npy.getvalue(), arrays.read_npy),
        Seed("npz", npz.getvalue(), arrays.read_npz),
        Seed("npz-packed", packed.getvalue(), arrays.read_npz),
        Seed("idx", idx, arrays.read_idx),
        Seed("idx-gz", gzip.compress(idx, mtime=0), arrays.read_idx),
        Seed("cifar", cifar, lambda path: arrays.read_cifar(path, num_label_bytes=1)),
    ]


def tar_of(members: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of regular files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return buffer.getvalue()


def _extract(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        target = Path(folder) / "into" / "here"
        target.parent.mkdir()
        try:
            archives.extract(path, target)
        finally:
            stray = [p for p in Path(folder).rglob("*") if target not in (p, *p.parents) and p != target.parent]
            if stray:
                raise AssertionError(f"files outside of the target: {stray}")


def archive_seeds() -> list[Seed]:
    """Zip and tar in each compression."""
    members = {"a.txt": b"hello\n" * 40, "folder/b.bin": bytes(range(256)), "folder/" + "long" * 40: b"x"}
    made = {"zip": zip_of(members), "zip-stored": zip_of(members, zipfile.ZIP_STORED), "tar": tar_of(members)}
    made |= {f"tar-{kind}": tar_of(members, f"w:{kind}") for kind in ("gz", "bz2", "xz")}
    made["tar-gnu"] = tar_of(members, form=tarfile.GNU_FORMAT)
    return [Seed(name, data, _extract) for name, data in made.items()]


def annotation_seeds() -> list[Seed]:
    """CSV, XML and JSON."""
    csv = b'file,label\n"a ""b"".jpg",1\nc.jpg,2\n'
    boxes = b"<object><name>person</name><bndbox><xmin>1</xmin><ymax>9</ymax></bndbox></object>"
    xml = b"<annotation><size><width>4</width></size>" + boxes + b"</annotation>"
    coco = json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [[1.5, 2, None, True]]}).encode()
    return [
        Seed("csv", csv, tables.read_table),
        Seed("xml", xml, tables.read_xml),
        Seed("json", coco, files.read_json),
        Seed("yaml", b"train: images/train\nnames:\n  0: cat\n  1: 'dog'\nnc: 2\n", yaml_files.read_yaml),
        Seed("run-lengths", b"124;", _draw),
    ]


def tensor_seeds() -> list[Seed]:
    """Safetensors and torch weights."""
    import safetensors.torch  # here, because the other targets do without torch
    import torch

    from opsin.io import tensors

    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    buffer = io.BytesIO()
    torch.save({"state_dict": weights, "epoch": 1}, buffer)
    return [
        Seed("safetensors", safetensors.torch.save(weights, {"k": "v"}), tensors.read_tensors),
        Seed("torch", buffer.getvalue(), tensors.read_torch_weights),
    ]


TARGETS: dict[str, Callable[[], list[Seed]]] = {
    "image": image_seeds,
    "photo": photo_seeds,
    "parquet": parquet_seeds,
    "array": array_seeds,
    "archive": archive_seeds,
    "annotation": annotation_seeds,
    "tensors": tensor_seeds,
}


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four random changes; a PNG's checksums are sometimes made right again, so that deeper code is reached."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        _change(changed, rng)
    if changed[:4] == b"\x89PNG" and rng.random() < 0.7:
        _repair_png(changed)
    return bytes(changed)


def _change(data: bytearray, rng: random.Random) -> None:
    # Half of the changes hit the first 100 bytes: that is where headers are.
    end = min(len(data), 100) if rng.random() < 0.5 else len(data)
    start = rng.randrange(max(1, end))
    length = rng.randint(1, 16)
    kind = rng.randrange(7)
    if kind == 0 and data:
        data[start] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[start] = rng.randrange(256)
    elif kind == 2:
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice(EDGES) % 256**width
        data[start : start + width] = value.to_bytes(width, rng.choice(("little", "big")))
    elif kind == 3:
        del data[start : start + length]
    elif kind == 4:
        data[start:start] = data[start : start + length] * rng.randint(1, 4)
    elif kind == 5:
        data[start:start] = rng.randbytes(length)
    else:
        del data[rng.randrange(max(1, len(data))) :]


def _repair_png(data: bytearray) -> None:
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4


def mutants(seeds: list[Seed], rng: random.Random) -> Iterator[tuple[Seed, bytes]]:
    """Endless mutants, the seeds in turn."""
    while True:
        for seed in seeds:
            yield seed, mutate(seed.data, rng)


def try_case(seed: Seed, data: bytes, folder: Path, outcome: Outcome) -> None:
    """Read one input and add what happened to `outcome`."""
    path = folder / f"case-{seed.name}"
    path.write_bytes(data)
    outcome.cases += 1
    before, fault = time.perf_counter(), None
    try:
        seed.read(path)
    except InputError:
        outcome.refused += 1
    except (Exception, RecursionError):
        fault = traceback.format_exc(limit=-3)
    seconds = time.perf_counter() - before
    if seconds > seed.max_seconds:
        fault = f"took {seconds:.1f} s"
    if fault:
        kept = folder / f"crash-{seed.name}-{len(outcome.crashes)}"
        kept.write_bytes(data)
        outcome.crashes.append(f"{kept}: {fault}")


def peak_bytes() -> int:
    """The largest resident size that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), help="all of them in turn if not given")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="default: the clock")
    options = parser.parse_args()
    warnings.simplefilter("error")
    seed = options.seed if options.seed is not None else int(time.time())
    num_crashes = 0
    for target in [options.target] if options.target else sorted(TARGETS):
        memory_disk = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the archive target waits for fsync otherwise
        folder = Path(tempfile.mkdtemp(prefix=f"opsin-fuzz-{target}-", dir=memory_disk))
        outcome = Outcome()
        seeds = TARGETS[target]()
        for case in seeds:
            try_case(case, case.data, folder, outcome)
        before, end = peak_bytes(), time.monotonic() + options.seconds
        for case, data in mutants(seeds, random.Random(f"{target} {seed}")):
            if time.monotonic() > end:
                break
            try_case(case, data, folder, outcome)
        growth = peak_bytes() - before
        if growth > MAX_GROWTH_BYTES:
            outcome.crashes.append(f"memory grew by {growth // 2**20} MiB")
        print("\n".join(outcome.crashes[:10]), end="\n" if outcome.crashes else "")
        print(
            f"{target}: {outcome.cases} cases, {len(outcome.crashes)} crashes "
            f"({outcome.refused} refused, seed {seed}, memory +{growth // 2**20} MiB, inputs in {folder})"
        )
        num_crashes += len(outcome.crashes)
    return 1 if num_crashes else 0


if __name__ == "__main__":
    sys.exit(main())
