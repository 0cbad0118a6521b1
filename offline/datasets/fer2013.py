"""FER2013 and FER+: 35,887 pictures of faces from the web (Goodfellow et al. 2013).

`fer2013.csv` gives one of seven emotions each; `fer2013new.csv` beside it the votes of ten people
on eight (Barsoum et al. 2016), row by row in the same order.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine.errors import DataError
from offline.datasets import Broken, LabelledRecording
from offline.datasets.stills import PixelTable, as_recording, one_file, pixel_table, usage_split
from offline.labels import CODES
from offline.splits import Split
from sources.recording import Recording

__all__ = [
    "LABELS",
    "LICENCE",
    "OPTIONS",
    "WARNING",
    "broken",
    "left_out",
    "official",
    "open_part",
    "recordings",
]

LABELS = tuple(CODES["fer2013"].values())
LICENCE = "research use (FER2013); MIT (the votes of FER+)"
OPTIONS = {"label_source": ("fer2013", "ferplus")}
WARNING = "the csv tells no persons: no split of it is known to be subject-disjoint"
_FILE, _VOTES_FILE = "fer2013.csv", "fer2013new.csv"
_NO_EMOTION = ("unknown", "NF")  # NF: no face


@dataclass(frozen=True, slots=True)
class _Votes:
    """What ten people said of one picture: the winner, or why there is none; the shares."""

    label: str
    reason: str
    shares: Mapping[str, float]


def recordings(root: str | Path, label_source: str = "fer2013") -> list[LabelledRecording]:
    """The pictures of the csv below `root`, row by row; raises DataError if there is none.

    With `ferplus` the label is what most voted for, `soft` the shares of the votes for emotions;
    pictures without a winner among the emotions are left out.
    """
    table = pixel_table(one_file(root, _FILE))
    if label_source == "ferplus":
        votes = _votes_of(table)
        known = {row: v.label for row, v in votes.items() if not v.reason and row in table.codes}
    else:
        codes = CODES["fer2013"]
        votes = {}
        known = {row: codes[code] for row, code in table.codes.items() if code in codes}
    return [
        LabelledRecording(
            uid=f"fer2013-row{row:05d}",
            dataset="fer2013",
            subject=f"fer2013-row{row:05d}",
            label=label,
            path=table.path,
            groups={"usage": table.usages[row]},
            part=str(row),
            options={"label_source": label_source},
            soft=votes[row].shares if votes else None,
        )
        for row, label in known.items()
    ]


def broken(root: str | Path) -> list[Broken]:
    """Rows that are damaged, or whose code stands for no emotion."""
    table = pixel_table(one_file(root, _FILE))
    return [*table.faults, *table.unknown(CODES["fer2013"])]


def left_out(root: str | Path, label_source: str = "fer2013") -> list[Broken]:
    """Under `ferplus` the pictures on which the votes name no single emotion."""
    if label_source != "ferplus":
        return []
    table = pixel_table(one_file(root, _FILE))
    return [
        Broken(table.place(row), vote.reason)
        for row, vote in _votes_of(table).items()
        if vote.reason
    ]


def open_part(recording: LabelledRecording) -> Recording:
    """One picture, as a recording of one item."""
    return as_recording(recording, pixel_table(recording.path).pixels[int(recording.part)])


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """The contest's parts: Training, PublicTest to validate, PrivateTest to test."""
    return usage_split(recordings, "FER2013, its column Usage (pictures, persons unknown)")


def _votes_of(table: PixelTable) -> dict[int, _Votes]:
    path = table.path.with_name(_VOTES_FILE)
    if not path.is_file():
        raise DataError(f"{path}: no such file; label_source ferplus needs it beside {_FILE}")
    votes = _votes(path, path.stat().st_mtime_ns)
    if len(votes) != len(table.pixels):
        raise DataError(
            f"{path}: {len(votes)} rows, but {table.path.name} has {len(table.pixels)}; need the "
            "same pictures in the same order"
        )
    return votes


@lru_cache(maxsize=2)
def _votes(path: Path, mtime_ns: int) -> dict[int, _Votes]:
    """{row: votes} of the whole file."""
    names = (*CODES["ferplus"], *_NO_EMOTION)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        if missing := [name for name in names if name not in (reader.fieldnames or ())]:
            raise DataError(f"{path}:1: no column {', '.join(missing)}")
        found = {}
        for row, fields in enumerate(reader):
            try:
                counts = {name: int(fields[name] or 0) for name in names}
            except ValueError as error:
                raise DataError(f"{path}:{reader.line_num}: votes must be numbers") from error
            found[row] = _won(counts)
    return found


def _won(counts: Mapping[str, int]) -> _Votes:
    most = max(counts.values())
    winners = [name for name, n in counts.items() if n == most]
    named = {CODES["ferplus"][name]: n for name, n in counts.items() if name in CODES["ferplus"]}
    total = sum(named.values())
    if most == 0:
        return _Votes("", "nobody voted", {})
    if len(winners) > 1:
        return _Votes("", "two emotions or more have the most votes", {})
    if winners[0] in _NO_EMOTION:
        return _Votes("", "most votes are for no face or an unknown emotion", {})
    shares = {label: n / total for label, n in named.items() if n}
    return _Votes(CODES["ferplus"][winners[0]], "", shares)
