"""Pages of the documentation that are made from the code: verbs, the Python API, notebooks, the navigation.

mkdocs-gen-files runs this file at each build (`mkdocs.yml`). Sources are `docs/verbs/VERB.md` (a paragraph, examples;
the options come from the parser that prints `--help`), `docs/notebooks/*.py` and `opsin.__all__`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from site_examples import ExampleError, Workplace, cell_pages, with_outputs  # noqa: E402

DOCS = ROOT / "docs"
MEASURED = ("results", "versions", "segmentation-scores", "intervals")
"""Pages under "Measured"; every other page of `docs/` that has no place of its own is a guide."""
PROJECT = ("architecture", "contributing", "changelog", "licences")
HEADLESS = "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
"""Options of mkdocstrings for a page whose title is the name."""
OTHERS = ("index", "python", "formats", "own-parts")


def verb_reference(verb: str) -> str:
    """Usage and options of a verb and of the verbs below it, from the parser that prints `--help`."""
    from cyclopts.docs.markdown import generate_markdown_docs

    from opsin.cli import app

    command = app[verb]
    if not list(_below(command)):
        return _reference(generate_markdown_docs(command, command_chain=["opsin", verb]), level=3)
    parts = []
    for names, below in _leaves(command, (verb,)):
        text = generate_markdown_docs(below, command_chain=["opsin", *names])
        parts.append(f"### {' '.join(names)}\n\n{_reference(text, level=4)}")
    return "\n".join(parts)


def _below(command: Any) -> list[str]:
    return [name for name in command if not name.startswith("-")]


def _leaves(command: Any, names: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    below = _below(command)
    if not below:
        return [(names, command)]
    return [leaf for name in below for leaf in _leaves(command[name], (*names, name))]


def _reference(text: str, level: int) -> str:
    """Cyclopts' page without its title, with its groups as headings."""
    text = re.sub(r"\A# .*\n+", "", text)
    headed = re.sub(r"^\*\*(.+)\*\*:$", lambda found: f"{'#' * level} {found[1]}", text, flags=re.MULTILINE)
    return headed.replace("[env: OPSIN_DATA]", "*[environment: OPSIN_DATA]*")


def verb_page(verb: str, source: str, place: Workplace) -> str:
    """A verb's page: its hand-written part with outputs, then its options."""
    return f"{with_outputs(source, place).rstrip()}\n\n## Options\n\n{verb_reference(verb)}\n"


def api_page(name: str) -> str:
    """The page of a name in `opsin.__all__`: its docstring, read by mkdocstrings."""
    return f"::: {_address(name)}\n    options:\n      heading: opsin.{name}\n      heading_level: 1\n"


def _address(name: str) -> str:
    import opsin

    value = getattr(opsin, name)
    if isinstance(value, type(sys)):
        return value.__name__
    home = getattr(value, "__module__", None) or "opsin"
    return f"{home}.{getattr(value, '__qualname__', name)}"


def api_index() -> str:
    """The list of public names with the first sentence of each."""
    import opsin

    rows = []
    for name in sorted(opsin.__all__, key=str.lower):
        first = (getattr(opsin, name).__doc__ or "").strip().split("\n\n")[0]
        rows.append(f"| [`{name}`]({name}.md) | {' '.join(first.split())} |")
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    return f"{text.rstrip()}\n\n## Public names\n\n| name | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"


def title_of(text: str, fallback: str) -> str:
    """The first heading of a page.

    >>> title_of("# Which score for masks?\\n\\nA mask …", "x")
    'Which score for masks?'
    """
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    return heading[1] if heading else fallback


def navigation(verbs: list[str], notebooks: dict[str, str], names: list[str]) -> str:
    """`SUMMARY.md` as literate-nav reads it."""
    own = [f"* [{_page_title('own-parts')}](own-parts.md)"] if (DOCS / "own-parts.md").exists() else []
    placed = {*MEASURED, *PROJECT, *OTHERS}
    guides = sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in placed)
    lines = [
        "* [Start](index.md)",
        "* Notebooks",
        *(f"    * [{title}](notebooks/{stem}.md)" for stem, title in notebooks.items()),
        "* [Labs](labs/index.md)",
        "* Command line",
        "    * [Overview](verbs/index.md)",
        *(f"    * [opsin {verb}](verbs/{verb}.md)" for verb in verbs),
        "* Python",
        "    * [Overview](python/index.md)",
        *(f"    * [opsin.{name}](python/{name}.md)" for name in names),
        "    * [Errors](python/errors.md)",
        *(f"    {line}" for line in own),
        "* Guides",
        "    * [Formats](formats.md)",
        *(f"    * [{_page_title(stem)}]({stem}.md)" for stem in guides),
        "* Measured",
        *(f"    * [{_page_title(stem)}]({stem}.md)" for stem in MEASURED if (DOCS / f"{stem}.md").exists()),
        "* Project",
        "    * [Architecture](architecture.md)",
        "    * [Contributing](contributing.md)",
        "    * [Changes](changelog.md)",
        "    * [Licences](licences.md)",
    ]
    return "\n".join(lines) + "\n"


def _page_title(stem: str) -> str:
    return title_of((DOCS / f"{stem}.md").read_text(encoding="utf-8"), stem)


def verbs_index(verbs: list[str]) -> str:
    """The overview of `opsin --help`, with links."""
    from opsin.cli import app

    rows = [
        f"| [`opsin {verb}`]({verb}.md) | {' '.join((app[verb].help or '').split(chr(10) * 2)[0].split())} |"
        for verb in verbs
    ]
    source = (DOCS / "verbs/index.md").read_text(encoding="utf-8")
    return source.replace("<!-- verbs -->", "| verb | what it does |\n|---|---|\n" + "\n".join(rows))


def write_pages() -> None:
    """Hand every page to MkDocs."""
    import mkdocs_gen_files as gen

    import opsin
    from opsin.cli import VERBS

    def write(path: str, text: str) -> None:
        with gen.open(path, "w") as file:
            file.write(text)

    place = Workplace()
    verbs = list(VERBS)
    for verb in verbs:
        source = (DOCS / f"verbs/{verb}.md").read_text(encoding="utf-8")
        write(f"verbs/{verb}.md", verb_page(verb, source, place))
        for picture in re.findall(r"!\[[^\]]*\]\(([\w./-]+)\)", source):
            if (DOCS / "verbs" / picture).is_file():
                continue  # it is kept, not made by the commands of the page
            with gen.open(f"verbs/{picture}", "wb") as file:
                file.write((place.folder / picture).read_bytes())
    write("verbs/index.md", verbs_index(verbs))
    write("index.md", with_outputs((DOCS / "index.md").read_text(encoding="utf-8"), place))
    notebooks = {}
    for notebook in sorted((DOCS / "notebooks").glob("*.py")):
        text = ""
        for part, files in cell_pages(place.cells_of(notebook), notebook.stem):
            text += f"{part}\n"
            for name, content in files.items():
                with gen.open(f"notebooks/{name}", "wb") as file:
                    file.write(content)
        notebooks[notebook.stem] = title_of(text, notebook.stem)
        write(f"notebooks/{notebook.stem}.md", text)
    names = sorted(opsin.__all__, key=str.lower)
    for name in names:
        write(f"python/{name}.md", api_page(name))
    write("python/index.md", api_index())
    write(
        "python/errors.md",
        f"# Errors\n\n::: opsin.errors\n{HEADLESS}",
    )
    for stem, path in {"contributing": ROOT / "CONTRIBUTING.md", "changelog": ROOT / "CHANGELOG.md"}.items():
        write(f"{stem}.md", path.read_text(encoding="utf-8").replace("](docs/", "]("))
    write("SUMMARY.md", navigation(verbs, notebooks, names))


if __name__ == "<run_path>" or __name__ == "__main__":
    try:
        write_pages()
    except ExampleError as error:
        sys.exit(f"site: {error}")
