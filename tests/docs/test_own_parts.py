"""Every example of docs/own-parts.md runs, in order, in one session."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "own-parts.md"


def test_the_examples_of_the_page_on_own_parts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 6
    session: dict[str, object] = {"__name__": "notebook"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), session)
    assert len(list((tmp_path / "runs").iterdir())) == 7
