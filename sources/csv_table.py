"""Recordings in CSV tables: a head of names, a row per sample, with or without a column of time."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.lsl.streams import UNITS, USUAL_UNIT
from sources.recording import RecordedStream, Recording

__all__ = ["read_csv"]

_TIME = ("t", "time", "times", "timestamp", "timestamps", "lsl_timestamp")
_PER_SECOND = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "ns": 1e9}
_MARKERS = ("marker", "markers", "marker0", "event", "events", "trigger")
_IGNORED = ("index",)  # our own tables count their items
_TOLD = ("rate_hz", "kind", "unit")  # what a line `# key: value` above the head may say
_KINDS = ("eeg", "physio", "voice")
_ELECTRODE = re.compile(r"(?:eeg[ _]?)?(?:fp|af|fc|ft|cp|tp|po|[fctpoiam])(?:z|\d{1,2})(?:\W.*)?$")
_UNIT = re.compile(r"^(.*\S)\s*[(\[]([^()\[\]]+)[)\]]$")
_BREAK_S, _BREAK = 1.0, 8  # stamps so far apart, and so many samples, begin a segment
_UNIX = (1e9, 4e9)  # the years 2001 to 2096
_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(slots=True)
class _Table:
    """The text of a file: `told` above the head, names, and the cells of each column."""

    path: Path
    names: list[str]
    first_line: int  # of the first row
    lines: list[int]  # of each row
    columns: list[list[str]]
    told: Mapping[str, str] = field(default_factory=dict)
    comma: bool = False  # for a point in numbers

    def find(self, names: Sequence[str]) -> int | None:
        """The first column that is called so, whatever its case."""
        low = [name.lower() for name in self.names]
        return next((low.index(name) for name in names if name in low), None)

    def numbers(self, k: int) -> Array | None:
        """Column `k`, NaN where it is empty; None if it holds text.

        Raises DataError for a cell that is no number in a column of numbers.
        """
        cells = [c.strip() for c in self.columns[k]]
        if self.comma:
            cells = [c.replace(",", ".") for c in cells]
        plain = ["nan" if c.lower() in _EMPTY else c for c in cells]
        try:
            return np.array(plain, dtype=np.str_).astype(np.float64)
        except ValueError:
            bad = [i for i, cell in enumerate(plain) if not _is_number(cell)]
        if 2 * len(bad) >= len([c for c in plain if c != "nan"]):
            return None
        raise DataError(
            f"{self.path}: line {self.lines[bad[0]]}, column '{self.names[k]}': "
            f"{self.columns[k][bad[0]]!r} is no number"
        )


def read_csv(path: Path) -> Recording:
    """Read a table of samples: one stream, of all columns of numbers that are not named below.

    `t`, `time` or `timestamp`, also as `time_ms` or `time (us)`, is when each row was measured, in
    seconds where nothing else is told; `label` the truth from there on, `marker`, `event` or
    `trigger` a marker wherever it changes, `segment` a new segment wherever it does. Lines
    `# rate_hz: 128`, `# kind: eeg` and `# unit: uV` above the head say what the table cannot;
    without them the rate is measured, electrode names make it EEG in uV, all else is physiology.
    A pause of over a second begins a new segment; empty cells are missing values. Separators are
    comma, semicolon (with decimal commas, too) or tab.
    """
    table = _read(path)
    n, left_out = len(table.lines), []
    at, factor = _time_column(table)
    times_s = None if at is None else _times(table, at, factor)
    segment, label, mark = (table.find(names) for names in (("segment",), ("label",), _MARKERS))
    special = {k for k in (at, segment, label, mark, table.find(_IGNORED)) if k is not None}
    numbers: dict[int, Array] = {}
    for k, name in enumerate(table.names):
        if k not in special:
            values = table.numbers(k)
            if values is None:
                left_out.append(f"column '{name}' holds text, not numbers")
            else:
                numbers[k] = values
    if not numbers:
        raise DataError(f"{path}: no column of samples; there are {', '.join(table.names)}")
    starts = _starts(table, times_s, segment)
    rate_hz = _rate(table, times_s, starts)
    names, unit = _named([table.names[k] for k in numbers], left_out)
    kind = _kind(table, names)
    unit = table.told.get("unit", unit) or USUAL_UNIT.get(kind, "")
    data = np.stack([*numbers.values()], axis=1).astype(np.float32)
    stream = RecordedStream(
        StreamInfo(kind, kind, rate_hz, names, unit, (len(names),)),
        n,
        lambda first, last: data[first:last].copy(),
        None if times_s is None else (np.arange(n), times_s),
        None if label is None else _turns(table.columns[label]),
        starts,
    )
    markers = [] if mark is None else _markers(table.columns[mark])
    unix = times_s is not None and _UNIX[0] < times_s[0] < _UNIX[1]
    return Recording(
        path.stem, path, (stream,), tuple((stream.time(i), text) for i, text in markers),
        float(times_s[0]) if times_s is not None and unix else None, tuple(left_out),
    )  # fmt: skip


def _read(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no table of text: {error}") from error
    lines = text.splitlines()
    told, skipped = {}, 0
    for line in lines:
        if line.strip() and not line.startswith("#"):
            break
        skipped += 1
        key, colon, value = line.lstrip("# ").partition(":")
        if colon and key.strip() in _TOLD:
            told[key.strip()] = value.strip()
    if len(lines) <= skipped:
        raise DataError(f"{path}: no head; the first line names the columns")
    separator = max(",;\t", key=lines[skipped].count)
    rows = csv.reader(lines[skipped:], delimiter=separator)
    names = [name.strip() for name in next(rows)]
    if all(_is_number(name) for name in names):
        raise DataError(f"{path}: line {skipped + 1} is all numbers; the first line names columns")
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins or not all(names):
        problem = f"several columns are called {', '.join(twins)}" if twins else "one has no name"
        raise DataError(f"{path}: line {skipped + 1}: {problem}; each needs its own")
    found, at = [], []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            raise DataError(
                f"{path}: line {skipped + rows.line_num} has {len(row)} cells, the head "
                f"{len(names)}"
            )
        found.append(row)
        at.append(skipped + rows.line_num)
    if len(found) < 2:
        raise DataError(f"{path}: {len(found)} rows below the head; need two or more")
    columns = [list(column) for column in zip(*found, strict=True)]
    return _Table(path, names, at[0], at, columns, told, separator != ",")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _time_column(table: _Table) -> tuple[int | None, float]:
    """Which column is time, and how many of its units are a second."""
    for k, name in enumerate(table.names):
        told = re.fullmatch(r"(.+?)(?:[_ ]?[(\[]?(s|sec|ms|us|µs|ns)[)\]]?)?", name.lower())
        if name.lower() in _TIME:
            return k, 1.0
        if told and told[1].strip(" _") in _TIME:
            return k, _PER_SECOND[told[2] or ""]
    return None, 1.0


def _times(table: _Table, k: int, factor: float) -> Array:
    name, values = table.names[k], table.numbers(k)
    if values is None:
        raise DataError(
            f"{table.path}: column '{name}' holds text ({table.columns[k][0]!r}); need seconds, or "
            "milliseconds in a column called time_ms"
        )
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise DataError(f"{table.path}: line {table.lines[bad[0]]}: no time in column '{name}'")
    return values / factor


def _starts(table: _Table, times_s: Array | None, segment: int | None) -> tuple[int, ...]:
    """Where segments begin: where that column changes, and after pauses."""
    found = {0}
    if segment is not None:
        cells = table.columns[segment]
        found |= {i + 1 for i, (a, b) in enumerate(pairwise(cells)) if a != b}
    if times_s is None:
        return tuple(sorted(found))
    steps_s = np.diff(times_s)
    inside = np.array([i + 1 not in found for i in range(len(steps_s))], bool)
    if len(back := np.flatnonzero((steps_s < 0) & inside)):
        raise DataError(
            f"{table.path}: line {table.lines[back[0] + 1]}: time goes back by "
            f"{-steps_s[back[0]]:g} s; rows follow each other in time, or a column 'segment' "
            "counts their pieces"
        )
    forward = steps_s[inside & (steps_s > 0)]
    usual_s = float(np.median(forward)) if len(forward) else 0.0
    pauses = np.flatnonzero(steps_s > max(_BREAK_S, _BREAK * usual_s))
    return tuple(sorted(found | {int(i) + 1 for i in pauses}))


def _rate(table: _Table, times_s: Array | None, starts: tuple[int, ...]) -> float:
    """Samples per second: as told, else measured within the segments."""
    if (told := table.told.get("rate_hz")) is not None:
        if not _is_number(told) or not 0 < float(told) < np.inf:
            raise DataError(f"{table.path}: rate_hz is {told!r}; need one number above 0")
        return float(told)
    if times_s is None:
        raise DataError(
            f"{table.path}: neither a column 't' in seconds nor a line '# rate_hz: 128' above the "
            f"head; there are {', '.join(table.names)}"
        )
    edges = [*starts, len(times_s)]
    spans = [(b - a - 1, float(times_s[b - 1] - times_s[a])) for a, b in pairwise(edges)]
    n, length_s = sum(n for n, _ in spans), sum(s for _, s in spans)
    if n == 0 or length_s <= 0:
        raise DataError(f"{table.path}: time stands still, so there is no rate; need seconds")
    rate_hz = n / length_s
    whole = round(rate_hz)  # devices are declared so; what they are off by is in the stamps
    return float(whole) if whole and abs(rate_hz / whole - 1.0) < 0.005 else rate_hz


def _named(names: list[str], left_out: list[str]) -> tuple[tuple[str, ...], str]:
    """Channel names without their units, and the unit that they share."""
    found = [match.groups() if (match := _UNIT.match(name)) else (name, "") for name in names]
    units = {UNITS.get(unit.lower(), unit) for _, unit in found}
    if len(units) > 1:
        left_out.append(f"units differ between columns ({', '.join(sorted(units - {''}))})")
        return tuple(name for name, _ in found), ""
    return tuple(name for name, _ in found), units.pop()


def _kind(table: _Table, names: Sequence[str]) -> str:
    """As told, else eeg where half of the names are electrodes."""
    kind = table.told.get("kind")
    if kind is None:
        known = sum(_ELECTRODE.match(name.lower()) is not None for name in names)
        return "eeg" if 2 * known >= len(names) else "physio"
    if kind not in _KINDS:
        raise DataError(f"{table.path}: kind is '{kind}'; need one of {', '.join(_KINDS)}")
    return kind


def _turns(cells: Sequence[str]) -> tuple[tuple[int, str | None], ...]:
    """(row, label) wherever it changes; None where it is empty."""
    words = [cell.strip() for cell in cells]
    at = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(words)) if a != b)]
    return tuple((i, words[i] or None) for i in at)


def _markers(cells: Sequence[str]) -> list[tuple[int, str]]:
    """(row, text) wherever it changes to something; 0 is nothing, too."""
    return [(i, text) for i, text in _turns(cells) if text and text not in ("0", "0.0")]
