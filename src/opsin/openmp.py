"""How the threads of PyTorch wait for each other.

A step has hundreds of places where threads wait until the slowest is done. By default they spin, for milliseconds: on a
quiet machine that is harmless, but where another process has work it keeps the core from the very thread that is waited
for, and training falls to a fraction of its speed (`benchmarks/busy.py`). Spinning briefly, then sleeping, costs a
quiet machine nothing that can be measured. The runtimes read these variables once, when PyTorch is loaded.

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
    """Let threads wait briefly before they sleep, where the user has not said how they wait.

    Returns:
        Whether it was set: not after PyTorch was loaded, when it would be too late.
    """
    if "torch" in sys.modules or any(name in os.environ for name in SET_BY_HAND):
        return False
    os.environ.update(WAITING)
    return True
