"""The C allocator under a training, in both of its modes, looked at in a process of its own."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest
import torch

from opsin.config import TrainConfig
from opsin.training.engine.machine import prepare, set_allocator

LIBRARY = ctypes.CDLL(None)
MIB = 2**20
SIDES = (24, 16, 2)
"""MiB, from large to small: left to itself, glibc would map none that is smaller than one that was freed before."""


class Mallinfo2(ctypes.Structure):
    """What glibc tells of its allocator, mallinfo(3): ten counts, the fifth of bytes that are mapped by themselves."""

    _fields_ = (("before", 4 * ctypes.c_size_t), ("hblkhd", ctypes.c_size_t), ("behind", 5 * ctypes.c_size_t))


pytestmark = pytest.mark.skipif(not hasattr(LIBRARY, "mallinfo2"), reason="the allocator of glibc 2.33 or newer")


@pytest.fixture(scope="module")
def found() -> dict[str, list[list[int]]]:
    """What `look` prints."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def mapped_bytes() -> int:
    """Bytes of all blocks that are mapped by themselves."""
    mallinfo2 = LIBRARY.mallinfo2
    mallinfo2.restype = Mallinfo2
    return int(mallinfo2().hblkhd)


def mapped_by(side: int) -> list[int]:
    """Bytes that are mapped while a tensor of `side` MiB lives, and after it, more than before."""
    before = mapped_bytes()
    tensor = torch.empty(side * MIB, dtype=torch.uint8)
    during = mapped_bytes()
    del tensor
    return [during - before, mapped_bytes() - before]


def look() -> None:
    """Print what is mapped in both modes, one after the other."""
    prepare(TrainConfig(keep_memory=False, device="cpu"))
    back = [mapped_by(side) for side in SIDES]
    prepare(TrainConfig(device="cpu"))
    kept = [mapped_by(side) for side in SIDES]
    taken = set_allocator(keep_memory=False)
    print(json.dumps({"back": back, "kept": kept, "back again": [mapped_by(8 * SIDES[0])], "taken": [[taken]]}))


def test_given_back_each_large_tensor_is_mapped_by_itself(found: dict[str, list[list[int]]]) -> None:
    for side, (during, after) in zip(SIDES, found["back"], strict=True):
        assert side * MIB <= during < (side + 1) * MIB
        assert after == 0


def test_kept_no_tensor_is_mapped_by_itself(found: dict[str, list[list[int]]]) -> None:
    assert found["kept"] == [[0, 0]] * len(SIDES)


def test_what_was_kept_can_be_given_back_later(found: dict[str, list[list[int]]]) -> None:
    assert found["taken"] == [[True]]
    assert found["back again"][0][0] >= 8 * SIDES[0] * MIB


if __name__ == "__main__":
    look()
