"""What a launcher tells a process of the group that it belongs to, by torchrun's variables. Needs no PyTorch."""

from __future__ import annotations

import os

LEAD = 0
"""Number of the process that decides, writes and prints."""
NOTES_VARIABLE = "OPSIN_GROUP_NOTES"
"""Names the file in which a group keeps what it needs when it is started again (`training/engine/restarts.py`)."""


def launched() -> bool:
    """Whether this process was launched as one of several."""
    return number_of_processes() > 1 and "RANK" in os.environ


def number_of_processes() -> int:
    """Processes of the group; 1 where there is none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_follower() -> bool:
    """Whether another process of the group leads; such a process prints no results."""
    return launched() and os.environ["RANK"] != str(LEAD)
