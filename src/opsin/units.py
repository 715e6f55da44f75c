"""Formatting of amounts, the same everywhere."""

from __future__ import annotations

UNITS = ("B", "KB", "MB", "GB", "TB")
STEP = 1000


def bytes_text(num_bytes: float) -> str:
    """A number of bytes in decimal units, 1 GB is 10^9 bytes.

    >>> bytes_text(0), bytes_text(1536), bytes_text(12_550_000), bytes_text(2_340_000_000)
    ('0 B', '1.5 KB', '12.6 MB', '2.34 GB')
    """
    power = 0
    while power + 1 < len(UNITS) and round(abs(num_bytes) / STEP**power, 1) >= STEP:
        power += 1
    digits = 0 if power == 0 else 1 if power < 3 else 2
    return f"{num_bytes / STEP**power:,.{digits}f} {UNITS[power]}"
