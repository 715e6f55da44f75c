"""A model of the heap during training: the placement of each block, to count heap fragmentation.

Training keeps freed memory by default (`opsin.training.engine.machine.set_allocator`), so the process holds all
memory up to the highest block that ever existed. That is more than the live memory at any time: a free block serves
only blocks that are not larger. A real process has more fragmentation, from small blocks between large ones: this is a
lower bound.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGNMENT = 64
"""Bytes to which torch aligns tensors on the CPU."""
MARGIN = 112
"""Bytes beyond a tensor's own that a free block must have: glibc's `memalign` needs header, alignment and a smallest
chunk on top, so a freed block alone does not serve a tensor of the same size."""


class Heap:
    """Blocks placed by best fit; free neighbours are merged; a block that fits nowhere goes on top.

    Source: glibc's malloc, "best-fit with coalescing", without mapped blocks:
        https://sourceware.org/glibc/wiki/MallocInternals

    Attributes:
        high: bytes up to the end of the highest block so far.
    """

    def __init__(self) -> None:
        self.high = 0
        self._untouched: list[tuple[int, int]] = []
        self._top = 0
        self._used: dict[int, int] = {}
        self._free: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []

    @property
    def resident(self) -> int:
        """Bytes ever written to: only these are resident."""
        return self.high - sum(end - start for start, end in self._untouched)

    def take(self, size: int, *, written: bool = True) -> int:
        """The address of a new block of `size` bytes; `written`: whether it is touched."""
        kept = -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        found = bisect_left(self._by_size, (size + MARGIN, 0))
        if found < len(self._by_size):
            length, address = self._by_size[found]
            self._remove(address)
            if length > kept:
                self._insert(address + kept, length - kept)
        else:
            address, self._top = self._top, self._top + kept
            if self._top > self.high:
                self._untouched.append((self.high, self._top))
                self.high = self._top
        if written:
            self._touch(address, address + kept)
        self._used[address] = kept
        return address

    def give(self, address: int) -> None:
        """Free the block at `address`."""
        length = self._used.pop(address)
        if address in self._ends:
            before = self._ends[address]
            address, length = before, length + self._remove(before)
        if address + length in self._free:
            length += self._remove(address + length)
        if address + length == self._top:
            self._top = address
        else:
            self._insert(address, length)

    def _touch(self, start: int, end: int) -> None:
        pieces = (
            (a, b) for first, last in self._untouched for a, b in ((first, min(last, start)), (max(first, end), last))
        )
        self._untouched = [(a, b) for a, b in pieces if a < b]

    def _insert(self, address: int, length: int) -> None:
        self._free[address] = length
        self._ends[address + length] = address
        insort(self._by_size, (length, address))

    def _remove(self, address: int) -> int:
        length = self._free.pop(address)
        del self._ends[address + length]
        self._by_size.pop(bisect_left(self._by_size, (length, address)))
        return length
