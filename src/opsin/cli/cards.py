"""How robustness cards and scores by group are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opsin.cli.output import print_line, print_note, stdout_console

if TYPE_CHECKING:
    from opsin.diagnosis.card import RobustnessCard
    from opsin.diagnosis.groups import GroupScores
    from opsin.types import Score

NUM_WORST = 5


def print_cards(cards: Sequence[RobustnessCard], *, quiet: bool = False) -> None:
    """Cards side by side: for each change the mean over its strengths and the worst of them."""
    from rich.table import Table
    from rich.text import Text

    first = cards[0]
    heading = f"{first.score} under changes of the image, {first.data}, {first.split}, {first.n:,} samples"
    caption = Text("mean over the strengths of a change, with its 95 % interval; the worst strength and its score")
    table = Table(title=Text(heading), title_justify="left", caption=caption, caption_justify="left")
    table.add_column("change")
    for card in cards:
        table.add_column(Text(f"{card.run}\nmean"), justify="right", no_wrap=True)
        table.add_column("worst", justify="right", no_wrap=True)
    table.add_row("none", *[cell for card in cards for cell in (_words(card.clean), "")])
    for curve in first.curves:
        cells = [cell for card in cards for cell in _curve_cells(card, curve.change)]
        table.add_row(f"{curve.change} ({curve.unit})", *cells)
    table.add_row("all changes", *[cell for card in cards for cell in (_words(card.mean), "")])
    stdout_console().print(table)
    for card in cards:
        losses = [f"{loss.name} {loss.clean:.3f} to {loss.changed:.3f}" for loss in card.classes[:NUM_WORST]]
        print_line(f"{card.run}: classes with the largest drop: {', '.join(losses)}")
        for note in () if quiet else card.notes:
            print_note(f"note: {card.run}: {note}")


def print_groups(found: GroupScores) -> None:
    """Print the groups, worst first."""
    from rich.table import Table
    from rich.text import Text

    title = Text(
        f"{found.run}, {found.split}: {found.score} by {found.by}; of all {found.n:,}: {_words(found.overall)}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column(found.by)
    for heading in ("samples", found.score, ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in found.groups:
        table.add_row(Text(group.name), f"{group.n:,}", _words(group.score), "few samples" if group.small else "")
    stdout_console().print(table)
    if found.worst is not None:
        clear = "below the other samples" if found.clear else "not shown to be below the other samples"
        print_line(f"worst group: {found.worst.name}, {_words(found.worst.score)}, {clear}")


def _curve_cells(card: RobustnessCard, change: str) -> tuple[str, str]:
    try:
        curve = card.curve(change)
    except KeyError:
        return "n/a", ""
    return _words(curve.mean), f"{curve.worst.score.value:.4f} at {curve.worst.strength:g}"


def _words(score: Score) -> str:
    return str(score)
