r"""Names from outside as text that can be printed and stored.

A file system holds bytes, and Python reads those that are not UTF-8 as lone surrogates, which no file and no terminal
accepts. `text_of` writes them as `\xff`; that form is used for ids of samples, in JSON, HTML and tables, and
`path_of` converts it back to the path. `printable` and `printable_lines` escape terminal control characters, too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(\\|x[89a-f][0-9a-f])")
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but newline and tab, bidirectional marks, line separators, surrogates."""


def is_text(name: str) -> bool:
    """Whether `name` can be encoded in every encoding of Unicode."""
    return name.isascii() or _SURROGATE.search(name) is None


def text_of(path: str | os.PathLike[str]) -> str:
    r"""A name as valid Unicode text. Valid names are unchanged.

    In others, a byte that is not UTF-8 becomes `\xff`, and a backslash is doubled.

    >>> print(text_of("caf\udce9.jpg"))
    caf\xe9.jpg
    """
    name = os.fspath(path)
    if is_text(name):
        return name
    return _SURROGATE.sub(lambda match: _escaped(match[0]), name.replace("\\", "\\\\"))


def path_of(text: str) -> Path:
    r"""The inverse of `text_of` for a name that was not valid text.

    >>> path_of(r"caf\xe9.jpg") == Path("caf\udce9.jpg")
    True
    """
    return Path(_ESCAPED.sub(lambda m: "\\" if m[1] == "\\" else chr(0xDC00 + int(m[1][1:], 16)), text))


def printable(name: object) -> str:
    r"""A file name that is safe to print on one line: unprintable characters are escaped.

    >>> printable("a\nb.png")
    'a\\nb.png'
    """
    text = str(name)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    r"""Text that is safe to print; newlines and tabs are kept, other control characters are escaped.

    >>> print(printable_lines("a\x1b[2J"))
    a\x1b[2J
    """
    return _STEERING.sub(lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    if _BYTE.match(character):
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
