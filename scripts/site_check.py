"""Checks the built site: no page loads anything from elsewhere, and every link inside the site leads to a file.

python scripts/site_check.py build/site
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
"""Attributes whose address is loaded with the page; a `link` that is no more than a relation is not."""
RELATIONS = {"canonical", "next", "prev", "alternate"}


class Addresses(HTMLParser):
    """Collects the addresses of one page: `loaded` with it, and `linked` from it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name, value in attrs:
            if not value:
                continue
            if tag == "a" and name == "href":
                self.linked.append(value)
            elif (tag, name) in LOADED and values.get("rel") not in RELATIONS:
                self.loaded.append(value)


def faults(site: Path) -> Iterator[str]:
    """One line for each address that is loaded from elsewhere or leads nowhere."""
    for page in sorted(site.rglob("*.html")):
        found = Addresses()
        found.feed(page.read_text(encoding="utf-8"))
        for address in found.loaded:
            if urlsplit(address).netloc:
                yield f"{page.relative_to(site)}: loads {address}"
        for address in [*found.loaded, *found.linked]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path or page.name == "404.html":
                continue
            if not (page.parent / unquote(parts.path)).exists():
                yield f"{page.relative_to(site)}: {address} is not there"


def main() -> int:
    """Print the faults; 1 where there are any."""
    site = Path(sys.argv[1])
    lines = list(faults(site))
    print(
        "\n".join(lines) or f"{len(list(site.rglob('*.html')))} pages: nothing is loaded from elsewhere, no dead link"
    )
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
