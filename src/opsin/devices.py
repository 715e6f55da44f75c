"""Devices: by name, or the fastest one available."""

from __future__ import annotations

import torch

from opsin.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The named device; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: the device is not on this machine.
    """
    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    if name.split(":")[0] not in present:
        raise ConfigError("this device is not available", got=name, expected=", ".join(["auto", *present]))
    return torch.device(name)


def available_devices() -> list[str]:
    """Kinds of device on this machine, fastest first."""
    kinds = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()), ("cpu", True)]
    return [name for name, present in kinds if present]
