"""The machine of a run: device, threads, allocator, memory, and their use."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

import opsin
from opsin import collector
from opsin.config import TrainConfig
from opsin.devices import pick_device
from opsin.errors import ConfigError
from opsin.group import own_device
from opsin.runs import Environment
from opsin.types import JsonDict

if sys.platform != "win32":
    import resource

THREADS_A_CORE, FEW_THREADS = 4, 16
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
KEEPING = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
"""All blocks on one heap, which never shrinks and grows in large pieces."""
GIVING_BACK = (
    (M_MMAP_MAX, 65_536),
    (M_MMAP_THRESHOLD, 1 << 20),
    (M_TRIM_THRESHOLD, 128 << 10),
    (M_TOP_PAD, 128 << 10),
)
"""Blocks from 1 MiB on are mapped by themselves and unmapped when they are freed; the rest is glibc's default.
Set explicitly, the threshold is fixed: glibc would otherwise raise it to the size of the largest freed block."""


def prepare(config: TrainConfig) -> torch.device:
    """Set threads and allocator for training, and return the device.

    Raises:
        ConfigError: the requested device is not available, or there are far more threads than cores.
    """
    check_threads(config.threads)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = own_device(pick_device(config.device))
    if device.type == "cpu":
        set_allocator(keep_memory=config.keep_memory)
    return device


def check_threads(threads: int) -> None:
    """Refuse a number of threads far above the cores: it can hang or crash PyTorch.

    Raises:
        ConfigError: more than four times the cores, and more than 16.
    """
    if threads > most_threads():
        do = "leave --threads out: all cores are then used"
        expected = f"at most {most_threads()} on this machine of {os.cpu_count()} cores"
        raise ConfigError("setting `threads` is out of range", got=threads, expected=expected, do=do)


def most_threads() -> int:
    """Largest number of threads accepted on this machine."""
    return max(FEW_THREADS, THREADS_A_CORE * (os.cpu_count() or 1))


@contextmanager
def threads_restored() -> Iterator[None]:
    """Context that restores the number of threads of the process."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def import_dynamo() -> None:
    """Import TorchDynamo as the first optimizer would, but without collections of garbage meanwhile."""
    with collector.at_rest():
        import_module("torch._dynamo")


def set_allocator(*, keep_memory: bool) -> bool:
    """Let the C allocator of this process keep freed memory, or give it back to the kernel at once.

    If returned, large activations are mapped again, page by page, at each step, which costs time
    (`benchmarks/allocator.py`). If kept, they are on one heap, whose fragmentation makes the process larger than its
    live tensors (`benchmarks/memory.py`). Fragments kept earlier are reused when the mode changes, so the mode is set
    before the first training of a process.

    Returns:
        Whether the allocator was set: only glibc's can be.

    Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    taken = [library.mallopt(option, value) == 1 for option, value in (KEEPING if keep_memory else GIVING_BACK)]
    if not keep_memory:
        library.malloc_trim(0)  # return what was kept so far
    return all(taken)


def describe(device: torch.device) -> Environment:
    """Versions and hardware, for environment.json."""
    return Environment(
        opsin=opsin.__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        torchvision=version("torchvision"),
        platform=platform.platform(),
        processor=processor_name(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_bytes=memory_bytes(),
        device=str(device),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    )


def processor_name() -> str:
    """Name of the processor, as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Physical memory, or None where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far; 0 on Windows, where it is not measured."""
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass
class Usage:
    """Wall-clock and CPU time since construction, or since the last `reset`."""

    wall: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)

    def seconds(self) -> float:
        return time.monotonic() - self.wall

    def cpu_seconds(self) -> float:
        return time.process_time() - self.cpu

    def cpu_percent(self) -> float:
        """Share of all cores that this process kept busy, 0 to 100."""
        return round(100 * self.cpu_seconds() / max(self.seconds(), 1e-9) / (os.cpu_count() or 1), 1)

    def reset(self) -> None:
        self.wall, self.cpu = time.monotonic(), time.process_time()


def gpu_usage(device: torch.device) -> JsonDict:
    """Peak memory of the GPU, and its utilisation where the driver reports it; empty on a CPU."""
    if device.type == "cuda":
        return {"gpu_memory_bytes": torch.cuda.max_memory_allocated(device), **_gpu_percent(device)}
    if device.type == "mps":
        return {"gpu_memory_bytes": torch.mps.driver_allocated_memory()}
    return {}


def _gpu_percent(device: torch.device) -> JsonDict:
    try:
        return {"gpu_percent": torch.cuda.utilization(device)}
    except (ModuleNotFoundError, RuntimeError):  # needs the driver's management library, which not every machine has
        return {}
