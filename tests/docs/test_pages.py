"""The sources of the documentation fit the program: pages of verbs, their examples, notebooks."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import opsin
from opsin.cli import VERBS, app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from site_check import faults  # noqa: E402
from site_examples import commands, shortened, write_photos  # noqa: E402
from site_pages import title_of, verb_reference  # noqa: E402

PAGES = {verb: ROOT / f"docs/verbs/{verb}.md" for verb in VERBS}
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))
SHELL_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
USED = {"opsin", "numpy", "matplotlib"}


def example_lines(page: str) -> list[str]:
    """Commands of `sh` and `console` blocks, comments cut off."""
    lines = (line.removeprefix("$ ") for block in SHELL_BLOCK.findall(page) for line in block.splitlines())
    return [line.split("  #")[0] for line in lines if line.startswith("opsin ")]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_a_page_with_a_paragraph_and_an_example(verb: str) -> None:
    page = PAGES[verb].read_text(encoding="utf-8")
    assert title_of(page, "") == f"opsin {verb}"
    assert any(line.startswith(f"opsin {verb}") for line in example_lines(page))


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_of_a_page_is_taken_by_the_parser(verb: str) -> None:
    for line in example_lines(PAGES[verb].read_text(encoding="utf-8")):
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("verb", VERBS)
def test_all_verbs_but_the_demo_are_run_when_the_site_is_built(verb: str) -> None:
    assert verb == "demo" or commands(PAGES[verb].read_text(encoding="utf-8"))


def test_no_page_describes_a_verb_that_is_gone() -> None:
    assert {path.stem for path in (ROOT / "docs/verbs").glob("*.md")} == {*VERBS, "index"}


def test_the_options_of_a_verb_are_those_of_its_help() -> None:
    reference = verb_reference("train")
    assert "`--open-test`" in reference
    assert "### Data" in reference
    assert "### data fetch" in verb_reference("data")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_opsin_and_arrays_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= USED
    assert not [name for name in imported if name.startswith("opsin.")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    values: dict[str, object] = {"__name__": "__main__"}
    # how well a network learns is shown by the site; here it is enough that the cells run
    text = re.sub(r"\bepochs=\d+", "epochs=1", path.read_text(encoding="utf-8")).replace("scenes=600", "scenes=60")
    exec(compile(text, path.name, "exec"), values)
    plt.close("all")
    assert isinstance(values["run"], opsin.Run)


def test_long_outputs_say_how_many_lines_are_left_out() -> None:
    assert shortened("a\nb\nc\nd", max_lines=3) == "a\nb\n… 2 more lines"


def test_a_site_that_loads_from_elsewhere_or_has_a_dead_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text("<p>here</p>")
    page = tmp_path / "index.html"
    page.write_text('<a href="other.html#top">good</a> <a href="https://example.org">good</a>')
    assert list(faults(tmp_path)) == []
    page.write_text('<script src="https://example.org/x.js"></script><a href="gone.html">bad</a>')
    assert list(faults(tmp_path)) == [
        "index.html: loads https://example.org/x.js",
        "index.html: gone.html is not there",
    ]


def test_every_test_that_the_table_of_mends_names_is_there() -> None:
    table = (ROOT / "docs/mended.md").read_text(encoding="utf-8")
    told = {f"test_{name.removeprefix('test_')}" for name in re.findall(r"(?:::|…)([a-z0-9_]{12,})", table)}
    files = {name for name in re.findall(r"`(\w+(?:/\w+)*\.py)", table) if not name.startswith("benchmarks/")}
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert sorted(name for name in told if f"def {name}(" not in written) == []
    assert sorted(name for name in files if not (ROOT / "tests" / name).is_file()) == []
    assert len(told) > 50
