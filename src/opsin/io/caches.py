"""Where the cache folder is. No torch: reading a run asks for it too."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "OPSIN_CACHE"


def default_cache() -> Path:
    """The cache folder: OPSIN_CACHE, else `~/.cache/opsin` (or under XDG_CACHE_HOME)."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "opsin"
