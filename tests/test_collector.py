"""When Python's garbage collector runs: not while modules are imported."""

from __future__ import annotations

import gc
from importlib import import_module

import pytest

from opsin import collector


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
