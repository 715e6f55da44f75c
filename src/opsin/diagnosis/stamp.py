"""Which network a measurement is of: when a run goes on training, what was measured before is out of date."""

from __future__ import annotations

import hashlib
import json

from opsin.runs import Run, read_extra


def network_stamp(run: Run) -> str:
    """SHA-256 of the hashes of the run's artefact; "" where it has none yet."""
    hashes = read_extra(run.path, "model/manifest.json")
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest() if hashes else ""
