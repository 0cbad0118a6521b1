"""Which files can be read: opening one, finding those of a folder, saying what is in one."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.plugins import nearest
from sources.audio import read_audio
from sources.cnt import read_cnt
from sources.csv_table import read_csv
from sources.edf import read_edf
from sources.mne_files import MNE, read_mne
from sources.npz import read_npz
from sources.recording import RecordedStream, Recording
from sources.video import VIDEO, read_video
from sources.xdf import read_xdf

__all__ = [
    "READABLE",
    "RECORDINGS",
    "RecordedStream",
    "Recording",
    "inspect",
    "open_recording",
    "recordings_below",
]

_READERS = {
    ".cnt": read_cnt,
    ".csv": read_csv,
    ".edf": read_edf,
    ".flac": read_audio,
    ".mp3": read_audio,
    ".npz": read_npz,
    ".ogg": read_audio,
    ".wav": read_audio,
    ".xdf": read_xdf,
    **dict.fromkeys(MNE, read_mne),
    **dict.fromkeys(VIDEO, read_video),
}
READABLE = frozenset(_READERS)
RECORDINGS = READABLE - {".csv"}  # what a folder is searched for: a table may be anything


def open_recording(path: str | Path) -> Recording:
    """Open a biosignal, audio or video file; raises DataError for anything that is not a whole one.

    vagus's own MCAP recordings are not opened here: they are the engine's log.
    """
    path = Path(path)
    _check_is_file(path)
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise DataError(f"{path}: cannot read {suffix or 'a file without a suffix'}; {_needed()}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    return _READERS[suffix](path)


def recordings_below(path: str | Path, suffixes: Collection[str] = RECORDINGS) -> list[Path]:
    """The recordings below a folder, 9 before 10; a file stands for itself, a table must be named.

    Raises DataError if there is no such path, or nothing in it that can be read.
    """
    path = Path(path)
    if not path.is_dir():
        _check_is_file(path)
        return [path]
    found = [p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file()]
    if not found:
        raise DataError(f"{path}: no recording in this folder; {_needed(suffixes)}")
    return sorted(found, key=lambda p: _natural(p.relative_to(path)))


def inspect(path: str | Path) -> dict[str, Any]:
    """What is in a file, as plain values: see `vagus inspect` in the docs; `markers` is a count."""
    recording = open_recording(path)
    return {
        "duration_s": round(recording.end_s - recording.first_s, 9),
        "markers": len(recording.markers),
        "streams": [_describe(stream) for stream in recording.streams],
    }


def _describe(stream: RecordedStream) -> dict[str, Any]:
    info, n = stream.info, stream.n_items
    edges = [*stream.segment_starts, n]
    spans = [(stream.time(a), stream.time(b - 1)) for a, b in pairwise(edges)]
    covered_s = sum(last_s - first_s for first_s, last_s in spans)
    return {
        "name": info.name,
        "kind": info.kind,
        "n": n,
        "rate_hz": info.rate_hz,
        "measured_rate_hz": (n - len(spans)) / covered_s if covered_s > 0 else None,
        "channels": list(info.channels),
        "unit": info.unit,
        "segments": stream.segments,
        "first_s": spans[0][0],
        "last_s": spans[-1][1],
    }


def _check_is_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise DataError(f"{path}: a folder, where one file is needed")
    if not path.parent.is_dir():
        raise DataError(f"{path}: no such file; there is no folder {path.parent} either")
    hint = nearest(path.name, (p.name for p in path.parent.iterdir()))
    raise DataError(f"{path}: no such file{hint}")


def _needed(suffixes: Collection[str] = READABLE) -> str:
    return f"readable are {', '.join(sorted(suffixes))}"


def _natural(path: Path) -> list[tuple[tuple[int, int, str], ...]]:
    """A key that puts numbers in order of value, folder by folder."""
    return [
        tuple(
            (0, int(piece), piece) if piece.isdigit() else (1, 0, piece.lower())
            for piece in re.findall(r"\d+|\D+", part)
        )
        for part in path.parts
    ]
