"""The last half minute at a glance: what was true and what was said, a letter for each tick."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from engine.types import Prediction

__all__ = ["Tick", "strip", "told"]

Tick = tuple[str | None, str | None]  # the truth, what was said

# Okabe and Ito's colours, which people with any colour vision tell apart; the letter says it too.
_COLOURS = ("#E69F00", "#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#0072B2", "#999999")


def told(p: Prediction) -> Tick:
    """What a strip keeps of a prediction."""
    return p.truth, p.label


def strip(ticks: Sequence[Tick], labels: Sequence[str]) -> Table:
    """Two rows of letters under each other, oldest left; without any truth only the second."""
    table = Table.grid(padding=(0, 2))
    if any(truth is not None for truth, _ in ticks):
        table.add_row(Text("true", "dim"), _row([truth for truth, _ in ticks], labels))
        right = [truth == said for truth, said in ticks if truth is not None and said is not None]
        share = f"{100 * sum(right) / len(right):.0f} % right" if right else ""
    else:
        share = ""
    table.add_row(Text("said", "dim"), _row([said for _, said in ticks], labels), share)
    return table


def _row(names: Sequence[str | None], labels: Sequence[str]) -> Text:
    row = Text(no_wrap=True, overflow="crop")
    for name in names:
        if name is None or name not in labels:
            row.append(" ")
            continue
        colour = _COLOURS[list(labels).index(name) % len(_COLOURS)]
        row.append(name[:1], f"black on {colour}")
    return row
