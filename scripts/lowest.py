"""Prints pip's constraints for the lowest versions that pyproject.toml declares: `name==lowest`, one a line."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
bounds = (re.fullmatch(r"([\w.-]+)>=([\w.]+)", line) for line in lines)
print("\n".join(sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})))
