"""What `--json` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout; what is undefined (NaN) is null there, which every reader of JSON knows."""
    from opsin.io.files import without_nan

    print(json.dumps(without_nan(dict(document)), indent=2, allow_nan=False))
