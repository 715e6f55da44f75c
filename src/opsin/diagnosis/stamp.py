"""The network of a measurement: when a run continues training, earlier measurements are outdated."""

from __future__ import annotations

import hashlib
import json

from opsin.runs import Run, read_extra


def network_stamp(run: Run) -> str:
    """SHA-256 of the hashes of the run's artefact; "" where it has none yet."""
    hashes = read_extra(run.path, "model/manifest.json")
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest() if hashes else ""
