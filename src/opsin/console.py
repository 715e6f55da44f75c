"""The console of the command line. Import it where it is used: rich is slow to import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from opsin.text import printable_lines


class SafeConsole(Console):
    """A console that escapes control characters in names."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text from a string; escaped before it is measured, so that columns keep their width."""
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of a renderable; the console's own control codes pass, those in text do not."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))
