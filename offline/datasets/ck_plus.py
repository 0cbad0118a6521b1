"""CK+ as a csv of 48x48 crops: `ckextended.csv`, 920 pictures of eight emotions.

The pictures come from the sequences of the extended Cohn-Kanade set (Lucey et al. 2010). The csv
numbers the emotions otherwise than the original and tells no persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offline.datasets import Broken, LabelledRecording
from offline.datasets.stills import as_recording, one_file, pixel_table, usage_split
from offline.labels import CODES
from offline.splits import Split
from sources.recording import Recording

__all__ = [
    "LABELS",
    "LICENCE",
    "OPTIONS",
    "WARNING",
    "broken",
    "official",
    "open_part",
    "recordings",
]

LABELS = tuple(CODES["ck-plus"].values())
LICENCE = "signed agreement (CK+)"
OPTIONS: dict[str, tuple[str, ...]] = {}
WARNING = (
    "the csv tells no persons: no split of it is known to be subject-disjoint, and pictures of one "
    "sequence may stand on two sides; judge by UAR, since most pictures are neutral"
)
_FILE = "ckextended.csv"


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The pictures of the csv below `root`, row by row; raises DataError if there is none."""
    table = pixel_table(one_file(root, _FILE))
    return [
        LabelledRecording(
            uid=f"ck-plus-row{row:05d}",
            dataset="ck-plus",
            subject=f"ck-plus-row{row:05d}",
            label=CODES["ck-plus"][code],
            path=table.path,
            groups={"usage": table.usages[row]},
            part=str(row),
        )
        for row, code in table.codes.items()
        if code in CODES["ck-plus"]
    ]


def broken(root: str | Path) -> list[Broken]:
    """Rows that are damaged, or whose code stands for no emotion."""
    table = pixel_table(one_file(root, _FILE))
    return [*table.faults, *table.unknown(CODES["ck-plus"])]


def open_part(recording: LabelledRecording) -> Recording:
    """One picture, as a recording of one item."""
    return as_recording(recording, pixel_table(recording.path).pixels[int(recording.part)])


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """The csv's own column Usage: 80 % to train, 10 % to validate, 10 % to test."""
    return usage_split(recordings, "CK+ csv, its column Usage (pictures, persons unknown)")
