"""What the networks of compared runs cost; a run is compared many times, and its network is read once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from opsin.artifact import load
from opsin.models.table import layer_table

MANIFEST = "manifest.json"


def size_of(folder: Path) -> tuple[int, int]:
    """Stored numbers of an artefact's network, and operations for one image: a multiplication and an addition are two.

    Raises:
        ArtifactError: there is none, or it was altered.
    """
    manifest = folder / MANIFEST
    return _size(folder, manifest.read_bytes() if manifest.is_file() else b"")


@lru_cache(maxsize=64)
def _size(folder: Path, manifest: bytes) -> tuple[int, int]:
    """The manifest holds the hashes of all parts, so that another network in the same folder is another entry."""
    artifact = load(folder)
    spec = artifact.spec
    table = layer_table(artifact.network, spec.channels, spec.height, spec.width)
    return table.parameters, 2 * table.multiply_adds
