"""Which pretrained backbones a lab can start from on this machine: installed packages, and files that lie at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from opsin.labs.lab import Book

FOLDER_VARIABLE = "OPSIN_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".h5")


def weights_of(book: Book, model: str) -> dict[str, Any] | None:
    """The settings with which a network starts from what is at hand: its package, else a file; None where there is neither.

    A file is sought in the folder that the environment variable OPSIN_WEIGHTS names, then in ROOT/weights: one whose name
    begins with that of the network, e.g. `vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5`. Keras' and PyTorch's files
    do not say which input they expect: it is taken to be that of their own collections.
    """
    from opsin.models.weights.published import KERAS_CONTRACTS, package_weights

    if package_weights(model) is not None:
        return {"weights": "package"}
    file = next((file for folder in _folders(book) for file in _files(folder, model)), None)
    if file is None:
        return None
    ranges = {".h5": KERAS_CONTRACTS.get(model), ".pth": "imagenet", ".safetensors": None}
    return {"weights": str(file), "weights_range": ranges[file.suffix]}


def _folders(book: Book) -> list[Path]:
    named = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(named)] if named else []), *([Path(book.root) / "weights"] if book.root else [])]


def _files(folder: Path, model: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.name.startswith(model) and file.suffix in SUFFIXES)
