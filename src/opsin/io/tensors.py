"""Tensors from files: safetensors, and torch weights files when the user names one.

`read_tensors` reads safetensors and nothing else: it never falls back to a format that can run code.
`read_torch_weights` is for a .pt or .pth file that a user names; it takes tensors out of it and refuses all else.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from opsin.errors import TensorFileError, WriteError
from opsin.io.files import PathLike, write_atomically
from opsin.io.gate import MEBIBYTE, check_size, printable, read_bytes, refusing
from opsin.types import JsonDict

MAX_TENSOR_BYTES = 16 * 1024 * MEBIBYTE
MAX_HEADER_BYTES = 16 * MEBIBYTE
MAX_TENSORS = 100_000
MAX_DEPTH = 4

LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin, as many published weights still do: a pickle that holds torch's magic number.
Their storages are read from the bytes that follow, so that they cannot hold more than the file does."""
OTHER_FORMATS = {
    b"PK": "a zip file (.pt, .pth, .keras)",
    b"\x80": "a pickle (.pt, .pth, .pkl)",
    b"\x89HDF": "an HDF5 file (.h5)",
}


def read_tensors(path: PathLike, max_bytes: int = MAX_TENSOR_BYTES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file on the CPU, and its metadata.

    Source: https://huggingface.co/docs/safetensors, "Format".

    Raises:
        TensorFileError: another format; a header that is too long, no JSON or does not fit the file; cut off.
    """
    data = read_bytes(path, TensorFileError, max_bytes)
    header = _read_header(data, path)
    with refusing(TensorFileError, path, "not a whole safetensors file"):
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
        metadata = header.get("__metadata__", {})
        return dict(sorted(tensors.items())), {str(key): str(value) for key, value in metadata.items()}


def _read_header(data: bytes, path: PathLike) -> JsonDict:
    """The JSON header, before the library sees the file."""
    for magic, name in OTHER_FORMATS.items():
        if data.startswith(magic) and data[8:9] != b"{":
            do = "convert it to safetensors; a torch weights file is read only where its name is given for it"
            raise TensorFileError("not a safetensors file", where=printable(path), got=name, do=do)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or length > min(MAX_HEADER_BYTES, len(data) - 8) or data[8:9] != b"{":
        expected = f"a JSON header of at most {min(MAX_HEADER_BYTES, max(0, len(data) - 8))} bytes"
        raise TensorFileError("not a whole safetensors file", where=printable(path), got=length, expected=expected)
    with refusing(TensorFileError, path, "not a safetensors header"):
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique_keys)
        if not isinstance(header, dict) or len(header) > MAX_TENSORS:
            raise ValueError(f"expected an object with at most {MAX_TENSORS} entries")
        return header


def _unique_keys(pairs: list[tuple[str, Any]]) -> JsonDict:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice")
    return value


def write_tensors(path: PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically. Equal input gives equal bytes.

    Raises:
        WriteError: a tensor that the format has no word for (sparse, complex), or the disk is full or faulty.
    """
    try:
        plain = {name: tensors[name].detach().to("cpu", copy=True).contiguous() for name in sorted(tensors)}
        data = _with_metadata(safetensors.torch.save(plain), metadata or {})
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise WriteError(
            "tensors cannot be written", where=printable(path), got=error, do="make them dense and contiguous"
        ) from error
    write_atomically(path, data)


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with its metadata in sorted order: the library's own order changes from call to call."""
    if not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError("metadata must be text")
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if metadata:
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def read_torch_weights(path: PathLike, max_bytes: int = MAX_TENSOR_BYTES) -> dict[str, Tensor]:
    """The tensors of a .pt or .pth file that the user named, on the CPU; nested names are joined with dots.

    Only for files named by a user: it relies on torch's `weights_only` reader, which runs no code but is more than a
    table of numbers.

    Raises:
        TensorFileError: anything but tensors in dictionaries (a whole model, an optimizer's state), or damaged.
    """
    data = read_bytes(path, TensorFileError, max_bytes)
    with refusing(TensorFileError, path, "not a readable torch weights file"):
        if not data.startswith(LEGACY_TORCH):
            _check_torch_zip(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        tensors: dict[str, Tensor] = {}
        _collect(content, "", tensors, 0)
    check_size(len(tensors), MAX_TENSORS, path, TensorFileError)
    return tensors


def _check_torch_zip(data: bytes) -> None:
    """Torch stores its members uncompressed: anything else is a bomb or not torch's."""
    if not data.startswith(b"PK"):
        raise ValueError("expected torch's zip format, or the one before torch 1.6")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    if sum(m.file_size for m in members) > len(data) or any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise ValueError("compressed or overlapping members")


def _collect(content: object, prefix: str, tensors: dict[str, Tensor], depth: int) -> None:
    """Gather the tensors of nested dictionaries; numbers and text beside them (an epoch, a name) are left out."""
    if isinstance(content, Tensor):
        if content.layout != torch.strided or content.is_quantized or content.device.type != "cpu":
            raise ValueError(f"`{prefix}` is not a plain tensor")
        if content.numel() * content.element_size() > content.untyped_storage().nbytes():
            raise ValueError(f"`{prefix}` claims more numbers than it holds")
        tensors[prefix or "tensor"] = content.detach().clone(memory_format=torch.contiguous_format)
    elif isinstance(content, Mapping) and depth < MAX_DEPTH:
        for key, value in content.items():
            _collect(value, f"{prefix}.{key}" if prefix else str(key), tensors, depth + 1)
    elif not isinstance(content, str | int | float | bool | None):
        raise TypeError(f"`{prefix}` is a {type(content).__name__}, expected tensors in dictionaries")
