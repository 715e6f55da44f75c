"""How PyTorch's OpenMP threads wait for each other.

A step has hundreds of barriers where threads wait for the slowest one. By default they spin for milliseconds: on an
idle machine that is harmless, but under other load it keeps the core from the very thread that is waited
for, and training slows to a fraction of its speed (`benchmarks/busy.py`). Spinning briefly, then sleeping, has no
measurable cost on an idle machine. The runtimes read these variables once, when PyTorch is loaded.

Source: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html;
https://openmp.llvm.org/design/Runtimes.html#kmp-blocktime
"""

from __future__ import annotations

import os
import sys

WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""Turns of the waiting loop in GNU's runtime (Linux), some 0.05 ms; milliseconds in LLVM's and Intel's."""
SET_BY_HAND = ("OMP_WAIT_POLICY", *WAITING)


def set_waiting() -> bool:
    """Make threads spin briefly before they sleep, unless the user has set how they wait.

    Returns:
        Whether it was set: not after PyTorch was loaded, when it has no effect.
    """
    if "torch" in sys.modules or any(name in os.environ for name in SET_BY_HAND):
        return False
    os.environ.update(WAITING)
    return True
