"""When Python's garbage collector runs: not while modules are imported, and later on new objects only."""

from __future__ import annotations

import gc
from importlib import import_module

import pytest

from opsin import collector


class Link:
    """An object that can point to itself."""

    def __init__(self, told: list[str], name: str) -> None:
        self.me, self.told, self.name = self, told, name

    def __del__(self) -> None:
        self.told.append(self.name)


def test_collections_pass_over_what_was_there_before_until_the_end() -> None:
    told: list[str] = []
    old = Link(told, "old")
    with collector.on_new_objects_only():
        del old
        Link(told, "new")
        gc.collect()
        assert told == ["new"]
    gc.collect()
    assert told == ["new", "old"]


def test_it_rests_and_goes_on_as_it_was_also_after_an_error() -> None:
    assert gc.isenabled()
    with pytest.raises(ModuleNotFoundError), collector.at_rest():
        import_module("opsin.no_such_module")
    assert gc.isenabled()
    with collector.at_rest():
        assert not gc.isenabled()
    gc.disable()
    try:
        with collector.at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
