"""Runs the examples of the documentation: commands of pages and cells of notebooks, with what they print.

Results are kept in `build/site-examples/DIGEST`, where DIGEST is that of the sources, so that a page that is only
reworded is built in seconds. A changed source runs all of them again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 40
"""Longer outputs are cut, and the number of lines that are left out is written there."""
TIMEOUT_S = 900
CONSOLE_BLOCK = re.compile(r"^```console\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ExampleError(Exception):
    """A command or a cell of the documentation failed."""


def commands(page: str) -> list[str]:
    """The lines after `$ ` in the `console` blocks of a page.

    >>> commands("```console\\n$ opsin models\\n$ opsin data list\\n```\\n")
    ['opsin models', 'opsin data list']
    """
    lines = (line for block in CONSOLE_BLOCK.findall(page) for line in block.splitlines())
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def source_digest() -> str:
    """Hash of everything under `src/opsin`: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src/opsin").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Workplace:
    """A folder in which examples run one after the other, with a few digits as PNG files in `photos/`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or ROOT / "build/site-examples" / source_digest()
        self.kept = self.folder / "kept.json"
        self.results: dict[str, Any] = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        if not (self.folder / "photos").exists():
            write_photos(self.folder / "photos")

    def output_of(self, command: str) -> str:
        """What a command prints, on stdout and stderr; it runs unless its output is kept."""
        if command not in self.results:
            self._keep(command, self._run(command))
        return str(self.results[command])

    def cells_of(self, notebook: Path) -> list[dict[str, Any]]:
        """The executed cells of a notebook in percent format."""
        text = notebook.read_text(encoding="utf-8")
        key = f"{notebook.name} {hashlib.sha256(text.encode()).hexdigest()}"
        if key not in self.results:
            folder = self.folder / "notebooks" / notebook.stem
            shutil.rmtree(folder, ignore_errors=True)  # what an execution that failed has left
            shutil.copytree(self.folder / "photos", folder / "photos")
            self._keep(key, run_notebook(text, folder, self._environment()))
        return list(self.results[key])

    def _keep(self, key: str, result: Any) -> None:
        self.results[key] = result
        self.kept.write_text(json.dumps(self.results))

    def _run(self, command: str) -> str:
        print(f"running: {command}", file=sys.stderr)
        line = re.sub(r"^opsin\b", f"{sys.executable} -m opsin", command)
        done = subprocess.run(
            line,
            shell=True,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise ExampleError(
                f"`{command}` ended with status {done.returncode} in {self.folder}; remove that folder to begin anew.\n"
                f"{done.stdout}"
            )
        return COLOUR.sub("", done.stdout).rstrip()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSIN_")}
        return {
            **kept,
            "COLUMNS": "84",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "OPSIN_CACHE": str(self.folder / "cache"),
            "PYTHONPATH": str(ROOT / "src"),
            "IPYTHONDIR": str(self.folder / "ipython"),
        }


def write_photos(folder: Path) -> None:
    """Ten images of each of the embedded digits, in class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in range(10):
        place = folder / f"digit-{label}"
        place.mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][:10]):
            Image.fromarray((image * 15.9375).astype("uint8")).save(place / f"{number}.png")


def run_notebook(text: str, folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """The cells of a notebook in percent format, executed in a kernel of this Python."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.reads(text, fmt="py:percent")
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return [dict(cell) for cell in notebook.cells]


def shortened(text: str, max_lines: int = MAX_LINES) -> str:
    """The first lines of a text, and how many more there are."""
    lines = text.splitlines()
    if len(lines) <= max_lines:
        return text
    return "\n".join([*lines[: max_lines - 1], f"… {len(lines) - max_lines + 1} more lines"])


def with_outputs(page: str, place: Workplace) -> str:
    """The page, with what each command printed after it."""

    def run(block: re.Match[str]) -> str:
        parts = []
        for line in block[1].splitlines():
            parts.append(line)
            if line.startswith("$ "):
                parts += [shortened(place.output_of(line.removeprefix("$ "))), ""]
        return "```console\n" + "\n".join(parts).rstrip() + "\n```\n"

    return CONSOLE_BLOCK.sub(run, page)


def cell_pages(cells: list[dict[str, Any]], stem: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Markdown of each cell, with the files that it refers to."""
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            yield f"{cell['source']}\n", {}
        elif cell["cell_type"] == "code":
            yield f"```python\n{cell['source']}\n```\n", {}
            for part, output in enumerate(cell["outputs"]):
                yield _output_page(output, f"{stem}-{number}-{part}")


def _output_page(output: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    data = output.get("data", {})
    if "image/png" in data:
        picture = base64.b64decode(data["image/png"])
        return _boxed(f"![Output of the cell above]({stem}.png)"), {f"{stem}.png": picture}
    if "text/html" in data:
        return f'<div class="notebook-output">{"".join(data["text/html"])}</div>\n', {}
    text = "".join(data.get("text/plain", output.get("text", "")))
    text = shortened(COLOUR.sub("", text).rstrip())
    return (_boxed(f"```text\n{text}\n```") if text else ""), {}


def _boxed(markdown: str) -> str:
    return f'<div class="notebook-output" markdown>\n\n{markdown}\n\n</div>\n'
