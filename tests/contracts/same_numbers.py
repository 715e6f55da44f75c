"""Hashes of what a short run of each task leaves: a refactoring keeps them, bit for bit.

    python tests/contracts/same_numbers.py             prints the hashes of this machine
    python tests/contracts/same_numbers.py --record    keeps them in same_numbers.json, beside those of other machines

Sums round differently on other processors and in other versions of PyTorch, so hashes are kept for each of them. A run
that is to change numbers records them anew, in the commit that says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_suffix(".json")
SOURCES = {"classify": "digits", "localize": "digit_scenes", "segment": "digit_masks"}
FIXED = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Instruction sets and threads under which sums are added in one order."""


def machine() -> str:
    """What decides the last bits: versions of PyTorch and NumPy, and the processor."""
    import numpy as np
    import torch

    cpu_file = Path("/proc/cpuinfo")
    lines = cpu_file.read_text().splitlines() if cpu_file.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}, {(names or [platform.machine()])[0]}"


def hashes(task: str, folder: Path) -> dict[str, str]:
    """SHA-256 of the weights, the scores and the predictions of three epochs."""
    import numpy as np
    from safetensors.numpy import load_file

    import opsin

    run = opsin.train(
        SOURCES[task],
        name=task,
        out=folder,
        epochs=3,
        subset="train=300",
        precision="float32",
        channels_last=False,
        threads=1,
        quiet=True,
        report=False,
    )
    scores = json.loads((run.path / "scores.json").read_text())
    weights = load_file(run.path / "model" / "weights.safetensors")
    with np.load(run.path / "predictions.npz", allow_pickle=False) as stored:
        predictions = dict(stored)
    return {
        "weights": of_arrays(weights),
        "scores": of_text(json.dumps(scores, sort_keys=True)),
        "predictions": of_arrays(predictions),
    }


def of_arrays(arrays: dict[str, Any]) -> str:
    """SHA-256 of named arrays: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def of_text(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def computed() -> dict[str, dict[str, str]]:
    """The hashes of all tasks, from a process of its own with the fixed instruction sets."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve())],
        env=os.environ | FIXED,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def recorded() -> dict[str, dict[str, dict[str, str]]]:
    """The hashes that are kept, by machine."""
    return json.loads(RECORD.read_text()) if RECORD.is_file() else {}


if __name__ == "__main__":
    if "--record" in sys.argv:
        RECORD.write_text(json.dumps(recorded() | {machine(): computed()}, indent=2, sort_keys=True) + "\n")
    else:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["OPSIN_CACHE"] = str(Path(scratch) / "cache")
            print(json.dumps({task: hashes(task, Path(scratch)) for task in SOURCES}))
