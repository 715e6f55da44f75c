"""Damage inside the pixel data of a JPEG, which its decoder passes over in silence.

Pixel data have no checksum. What can be known: they are a chain of codes of variable length, so that after a damaged
place the decoder is out of step, and at the end has bytes left over or too few. Pillow does not pass on libjpeg's
warnings; but it decodes piece by piece, and asks for the next piece only when it needs it. `Pieces` is the file as it
wants to be read: without its last bytes, then these and some filler, then the mark of the end. Which pieces were asked
for tells the rest. It costs no second decoding.

Not found: damage after which the decoder gets into step again and ends in the right place (of photos of 240 px with 40
zeroed bytes, 28 % are found); damage in progressive JPEGs, and in those with restart marks.

Source: ITU T.81, B.2 (segments) and F.2.2.5 (what a decoder reads ahead).
"""

from __future__ import annotations

import io

CUT = 2
"""Bytes that are held back; an encoder may fill up the last one."""
FILLER = b"\x55" * 8
"""A decoder looks up to 8 bytes ahead."""


class Pieces(io.BytesIO):
    """A JPEG of one scan without restart marks, handed out in three pieces.

    Args:
        data: from the first mark to the end mark, which are its last two bytes.
    """

    def __init__(self, data: bytes) -> None:
        length, view = len(data) - 2, memoryview(data)
        self._ends = (length - CUT, length + len(FILLER), len(data) + len(FILLER))
        self._reached = 0
        super().__init__(b"".join((view[:-2], FILLER, view[-2:])))

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, never more than to the end of the piece."""
        place = self.tell()
        end = next((end for end in self._ends if place < end), self._ends[-1])
        wanted = end - place if size is None or size < 0 else min(size, end - place)
        found = super().read(wanted)
        self._reached = max(self._reached, place + len(found))
        return found

    @property
    def damage(self) -> str | None:
        """What is wrong with the pixel data, once they were decoded; None where nothing is known to be."""
        if self._reached <= self._ends[0]:
            return "damaged: bytes are left over after the last pixel"
        if self._reached > self._ends[1]:
            return "damaged: the pixel data end before the last pixel"
        return None
