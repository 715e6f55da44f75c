"""The model of the C heap against cases worked by hand, and what it must hold for any sequence."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from opsin.planning.heap import ALIGNMENT, Heap


def test_a_freed_block_does_not_serve_one_of_its_own_size() -> None:
    heap = Heap()
    first = heap.take(1024)
    heap.take(1024)  # keeps the first from joining the top
    heap.give(first)
    assert heap.take(1024) == 2 * (1024 + ALIGNMENT)
    assert heap.take(960) == first


def test_freed_neighbours_are_joined_and_the_smallest_hole_that_is_enough_is_taken() -> None:
    heap = Heap()
    wide = [heap.take(1024), heap.take(1024)]
    heap.take(64)
    narrow = heap.take(1536)
    heap.take(64)
    for address in (*wide, narrow):
        heap.give(address)
    assert heap.take(1024) == narrow
    assert heap.take(1536) == wide[0]


def test_memory_that_nothing_writes_to_is_not_resident() -> None:
    heap = Heap()
    idle = heap.take(4096, written=False)
    heap.take(1024)
    heap.give(idle)
    assert heap.high == 4096 + 1024 + 2 * ALIGNMENT
    assert heap.resident == 1024 + ALIGNMENT
    assert heap.take(1024) == idle
    assert heap.resident == 2 * (1024 + ALIGNMENT)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 10_000)), max_size=60))
def test_blocks_never_overlap_and_the_heap_holds_them_all(steps: list[tuple[bool, int]]) -> None:
    heap, blocks, most = Heap(), {}, 0
    for frees, number in steps:
        if frees and blocks:
            address = sorted(blocks)[number % len(blocks)]
            del blocks[address]
            heap.give(address)
        else:
            blocks[heap.take(number)] = number
        ends = sorted((address, address + size) for address, size in blocks.items())
        assert all(end <= start for (_, end), (start, _) in pairwise(ends))
        most = max(most, sum(blocks.values()))
    assert heap.high >= heap.resident >= most
