"""Data sets of single face crops: a still as a recording, and tables of pixels read once.

The table is the one of the FER2013 contest, which the csv of CK+ follows: `emotion,pixels,Usage`,
with 48 x 48 grey levels 0 to 255 row by row, separated by blanks.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from offline.datasets import Broken, LabelledRecording
from offline.splits import Split
from sources.recording import RecordedStream, Recording

__all__ = ["SIDE", "PixelTable", "as_recording", "one_file", "pixel_table", "usage_split"]

SIDE = 48
_STILL = StreamInfo("face", "face", 15.0, ("grey",), "crop", (SIDE, SIDE, 1))
_USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_COLUMNS = ("emotion", "pixels", "Usage")
_EMPTY = np.zeros((SIDE, SIDE), np.uint8)


@dataclass(frozen=True, slots=True)
class PixelTable:
    """The rows of a table that are whole, by their number from 0; `faults` names the others.

    `codes` {row: emotion}, `usages` {row: train, val or test}, `pixels` (n, 48, 48) uint8, zeros
    where a row is damaged.
    """

    path: Path
    codes: Mapping[int, str]
    usages: Mapping[int, str]
    pixels: Array
    lines: Mapping[int, int]  # where a row ends in the file
    faults: tuple[Broken, ...]

    def unknown(self, known: Collection[str]) -> list[Broken]:
        """The rows whose emotion is none of the `known` codes."""
        return [
            Broken(self.place(row), f"the emotion '{code}' is none of {', '.join(known)}")
            for row, code in self.codes.items()
            if code not in known
        ]

    def place(self, row: int) -> str:
        """The file and the line of a row, as an editor takes them."""
        return f"{self.path}:{self.lines[row]}"


def as_recording(recording: LabelledRecording, picture: Array) -> Recording:
    """A grey `picture` (48, 48) as a recording of one item."""
    items = np.ascontiguousarray(picture, np.uint8).reshape(1, SIDE, SIDE, 1)
    stream = RecordedStream(_STILL, 1, lambda first, last: items[first:last].copy())
    return Recording(recording.uid.replace("/", "-"), recording.path, (stream,))


def one_file(root: str | Path, name: str) -> Path:
    """The file called `name`, which is `root` or lies below it; raises DataError if none does."""
    root = Path(root)
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = sorted(path for path in root.rglob("*.csv") if path.name.lower() == name)
    if not found:
        raise DataError(f"{root}: no {name} in this folder or below it")
    return found[0]


def pixel_table(path: Path) -> PixelTable:
    """The table at `path`, parsed once for as long as the file stays as it is."""
    stat = path.stat()
    return _parsed(path, stat.st_mtime_ns, stat.st_size)


def usage_split(recordings: Sequence[LabelledRecording], protocol: str) -> list[Split]:
    """The split that the table's Usage column gives, as one of pictures: no person is known."""
    sides: dict[str, list[str]] = {side: [] for side in _USAGES.values()}
    for recording in recordings:
        sides[recording.groups["usage"]].append(recording.uid)
    train, val, test = (tuple(sides[side]) for side in ("train", "val", "test"))
    return [Split(protocol, "trial", train, val, test)]


@lru_cache(maxsize=2)
def _parsed(path: Path, mtime_ns: int, size: int) -> PixelTable:
    codes: dict[int, str] = {}
    usages: dict[int, str] = {}
    lines: dict[int, int] = {}
    pictures: list[Array] = []
    faults: list[Broken] = []
    for row, (line, emotion, pixels, usage) in enumerate(_rows(path)):
        picture = _picture(pixels)
        lines[row] = line
        reason = ""
        if usage not in _USAGES:
            reason = f"Usage is '{usage}'; need one of {', '.join(_USAGES)}"
        elif isinstance(picture, str):
            reason = picture
        if reason:
            faults.append(Broken(f"{path}:{line}", reason))
        else:
            codes[row], usages[row] = emotion, _USAGES[usage]
        pictures.append(_EMPTY if isinstance(picture, str) else picture)
    whole = np.stack(pictures) if pictures else np.zeros((0, SIDE, SIDE), np.uint8)
    return PixelTable(path, codes, usages, whole, lines, tuple(faults))


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line, emotion, pixels, usage) of every row."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file, restval="")
        try:
            header = reader.fieldnames or ()
            if missing := [name for name in _COLUMNS if name not in header]:
                raise DataError(
                    f"{path}:1: no column {', '.join(missing)}; the first line must be "
                    f"{','.join(_COLUMNS)}"
                )
            for fields in reader:
                emotion, pixels, usage = (fields[name].strip() for name in _COLUMNS)
                yield reader.line_num, emotion, pixels, usage
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: no csv: {error}") from error


def _picture(pixels: str) -> Array | str:
    """(48, 48) grey levels, or what is wrong with them."""
    try:
        with warnings.catch_warnings():  # NumPy warns where it will raise one day
            warnings.simplefilter("error", DeprecationWarning)
            levels = np.fromstring(pixels, np.int64, sep=" ")  # five times as fast as int()
    except (ValueError, DeprecationWarning):
        return "its pixels are no whole numbers"
    if len(levels) != SIDE * SIDE:
        return f"has {len(levels)} pixels; need {SIDE * SIDE}, 48 rows of 48"
    if levels.min() < 0 or levels.max() > 255:
        return f"its pixels are {levels.min()} to {levels.max()}; need 0 to 255"
    return levels.reshape(SIDE, SIDE).astype(np.uint8)
