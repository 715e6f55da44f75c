"""Tensor files: safetensors alone, torch weights when named, nothing that can run code."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from opsin.errors import TensorFileError, WriteError
from opsin.io.tensors import read_tensors, read_torch_weights, write_tensors


def put(folder: Path, data: bytes) -> Path:
    path = folder / "weights"
    path.write_bytes(data)
    return path


def framed(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def torch_bytes(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class Gadget:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


def test_tensors_come_back_as_written(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
        "a": torch.ones(4, dtype=torch.bfloat16),
        "n": torch.tensor(7),
        "strided": torch.arange(6.0).reshape(2, 3).t(),
        "empty": torch.zeros(0, 3),
    }
    write_tensors(tmp_path / "w.safetensors", tensors, {"k": "ü"})
    found, metadata = read_tensors(tmp_path / "w.safetensors")
    assert list(found) == sorted(tensors)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in found)
    assert metadata == {"k": "ü"}


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.zeros(2)}
    write_tensors(tmp_path / "1", tensors, {"x": "1", "y": "2"})
    write_tensors(tmp_path / "2", dict(reversed(tensors.items())), {"y": "2", "x": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_tied_tensors_are_written_once_each(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    write_tensors(tmp_path / "w", {"a": weight, "b": weight, "part": weight[:2]})
    assert {name: len(t) for name, t in read_tensors(tmp_path / "w")[0].items()} == {"a": 3, "b": 3, "part": 2}


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WriteError):
        write_tensors(tmp_path / "w", {"a": torch.eye(3).to_sparse()})
    assert list(tmp_path.iterdir()) == []


BODY = bytes(24)
BAD_SAFETENSORS = {
    "empty": b"",
    "seven bytes": b"\1" * 7,
    "length alone": (2).to_bytes(8, "little"),
    "header longer than the file": framed(b"{}", length=100),
    "header of 2**63 bytes": framed(b"{}", length=2**63),
    "header above 16 MiB": framed(b"{" + b" " * (16 * 2**20) + b"}"),
    "header length 0": framed(b"", BODY, 0),
    "header is no json": framed(b"{nonsense}"),
    "header is a list": framed([1, 2]),
    "header is not utf-8": framed(b'{"\xff": 1}'),
    "header starts with a space": framed(b' {"a": 1}'),
    "name given twice": framed(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"1",
    ),
    "deep header": framed(b'{"a":' + b"[" * 100_000),
    "unknown dtype": framed({"a": entry(0, 24, [6], "X32")}, BODY),
    "offsets beyond the file": framed({"a": entry(0, 240, [60])}, BODY),
    "offsets backwards": framed({"a": entry(24, 0, [6])}, BODY),
    "negative offset": framed({"a": entry(-24, 0, [6])}, BODY),
    "shape and offsets disagree": framed({"a": entry(0, 24, [7])}, BODY),
    "shape beyond 64 bits": framed({"a": entry(0, 24, [2**40, 2**40])}, BODY),
    "negative side": framed({"a": entry(0, 24, [-6])}, BODY),
    "overlapping tensors": framed({"a": entry(0, 24, [6]), "b": entry(0, 24, [6])}, BODY),
    "a hole between tensors": framed({"a": entry(0, 8, [2]), "b": entry(16, 24, [2])}, BODY),
    "bytes after the tensors": framed({"a": entry(0, 8, [2])}, BODY),
    "one byte short": framed({"a": entry(0, 24, [6])}, BODY[:-1]),
    "metadata that is no text": framed({"__metadata__": {"a": 1}, "a": entry(0, 24, [6])}, BODY),
    "entry that is a number": framed({"a": 5}),
    "pickle": pickle.dumps({"a": 1}),
    "torch zip": torch_bytes({"a": torch.ones(1)}),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "keras zip": b"PK\3\4" + bytes(100),
}


@pytest.mark.parametrize("name", BAD_SAFETENSORS)
def test_malformed_safetensors_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TensorFileError):
        read_tensors(put(tmp_path, BAD_SAFETENSORS[name]))


@pytest.mark.parametrize("name", ["pickle", "torch zip", "hdf5", "keras zip"])
def test_other_formats_are_named_and_never_fallen_back_to(name: str, tmp_path: Path) -> None:
    with pytest.raises(TensorFileError, match="convert it to safetensors"):
        read_tensors(put(tmp_path, BAD_SAFETENSORS[name]))


def test_torch_weights_are_read_when_named(tmp_path: Path) -> None:
    weights = OrderedDict(a=torch.arange(4.0), b=torch.nn.Parameter(torch.ones(2, 3).t()))
    found = read_torch_weights(put(tmp_path, torch_bytes({"state_dict": weights, "epoch": 3, "name": "x"})))
    assert list(found) == ["state_dict.a", "state_dict.b"]
    assert torch.equal(found["state_dict.b"], torch.ones(3, 2))
    assert list(read_torch_weights(put(tmp_path, torch_bytes(weights)))) == ["a", "b"]


def test_gadgets_are_refused_and_never_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    contents = {
        "zip": torch_bytes({"a": Gadget(proof)}),
        "old": torch_bytes({"a": Gadget(proof)}, _use_new_zipfile_serialization=False),
        "pickle": pickle.dumps(Gadget(proof)),
    }
    for data in contents.values():
        path = put(tmp_path, data)
        for read in (read_torch_weights, read_tensors):
            with pytest.raises(TensorFileError):
                read(path)
    assert not proof.exists()
    pickle.loads(contents["pickle"])
    assert proof.exists()  # the gadget does work where it is let


def deflated(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


BAD_TORCH = {
    "empty": b"",
    "text": b"hello",
    "a whole model": torch_bytes(torch.nn.Linear(2, 2)),
    "no tensor at all": torch_bytes({"epoch": 3}),
    "a list": torch_bytes([torch.ones(1)]),
    "sparse": torch_bytes({"a": torch.eye(2).to_sparse()}),
    "too deep": torch_bytes({"a": {"b": {"c": {"d": {"e": torch.ones(1)}}}}}),
    "meta": torch_bytes({"a": torch.ones(2, device="meta")}),
    "compressed members": deflated(torch_bytes({"a": torch.zeros(1000)})),
    "cut off": torch_bytes({"a": torch.zeros(1000)})[:-200],
    "old format, a whole model": torch_bytes(torch.nn.Linear(2, 2), _use_new_zipfile_serialization=False),
    "old format, cut off": torch_bytes({"a": torch.zeros(1000)}, _use_new_zipfile_serialization=False)[:-200],
    "more numbers than it holds": torch_bytes({"a": torch.zeros(1).expand(1 << 40)}),
    "zip of something else": deflated(torch_bytes({}))[:0] + b"PK\5\6" + bytes(18),
}


def test_torch_files_of_the_format_before_1_6_are_read(tmp_path: Path) -> None:
    data = torch_bytes({"a": torch.arange(3.0)}, _use_new_zipfile_serialization=False)
    assert read_torch_weights(put(tmp_path, data))["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", BAD_TORCH)
def test_torch_files_that_hold_more_than_tensors_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TensorFileError):
        read_torch_weights(put(tmp_path, BAD_TORCH[name]))
