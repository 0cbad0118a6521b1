"""Recordings in EDF and EDF+ files, read from disk piece by piece.

Layout: the European Data Format (Kemp et al. 1992) and EDF+ (Kemp and Olivan 2003).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import edfio
import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.recording import RecordedStream, Recording

__all__ = ["read_edf"]

_MICROVOLTS = {"uV": 1.0, "µV": 1.0, "\u03bcV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3, "": 1.0}
_ANNOTATIONS = b"EDF Annotations"
_ONSET = re.compile(rb"[+-]\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things lie in the file, from its header."""

    header_bytes: int
    n_records: int
    record_s: float
    items: tuple[int, ...]  # per record, of every signal
    labels: tuple[bytes, ...]
    discontinuous: bool

    @property
    def record_bytes(self) -> int:
        return 2 * sum(self.items)


def read_edf(path: Path) -> Recording:
    """Read the signals of the rate that most have, in microvolts, and the annotations.

    Signals of another rate or that are no voltage are left out and named in `warnings`. A start
    time is taken as UTC, since the format has no time zone.
    """
    layout = _layout(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # edfio speaks of dates that differ; we take either
        try:
            edf = edfio.read_edf(path, lazy_load_data=True, header_encoding="latin-1")
            signals, left_out = _chosen(edf.signals)
            gains = [_MICROVOLTS[_dimension(s)] for s in signals]
            markers = tuple((float(a.onset), a.text) for a in edf.annotations)
            start_wall = _start_wall(edf)
        except (ValueError, IndexError, ArithmeticError) as error:
            raise DataError(f"{path}: a damaged EDF header or annotation: {error}") from error
    if not signals:
        raise DataError(f"{path}: no signal in volts in it; {'; '.join(left_out) or 'none at all'}")
    rate_hz = float(signals[0].sampling_frequency)

    def read(first: int, last: int) -> Array:
        x = np.empty((last - first, len(signals)), np.float32)
        for column, (signal, gain) in enumerate(zip(signals, gains, strict=True)):
            x[:, column] = signal.get_data_slice(first / rate_hz, last / rate_hz) * gain
        return x

    channels = tuple(s.label.removeprefix("EEG ").strip() for s in signals)
    per_record = signals[0].samples_per_data_record
    starts, stamps = _segments(path, layout, per_record)
    stream = RecordedStream(
        StreamInfo("eeg", "eeg", rate_hz, channels, "uV", (len(channels),)),
        layout.n_records * per_record,
        read,
        stamps,
        None,
        starts,
    )
    return Recording(path.stem, path, (stream,), markers, start_wall, tuple(left_out))


def _layout(path: Path) -> _Layout:
    """Read the header and check it against the size of the file."""
    with path.open("rb") as file:
        head = file.read(256)
        if len(head) < 256 or head[:8].strip() != b"0":
            raise DataError(f"{path}: not an EDF file (it does not begin with an EDF header)")
        try:
            header_bytes, promised = int(head[184:192]), int(head[236:244])
            record_s, n_signals = float(head[244:252]), int(head[252:256])
            if header_bytes != 256 * (n_signals + 1) or n_signals < 1 or not record_s >= 0:
                raise ValueError("its sizes contradict each other")
            rest = file.read(header_bytes - 256)
            labels = [rest[16 * j : 16 * j + 16].strip() for j in range(n_signals)]
            at = 216 * n_signals
            items = [int(rest[at + 8 * j : at + 8 * j + 8]) for j in range(n_signals)]
            if min(items) < 0 or sum(items) == 0:
                raise ValueError("its records hold no samples")
        except ValueError as error:
            raise DataError(f"{path}: a damaged EDF header: {error}") from error
    discontinuous = head[192:197] == b"EDF+D"
    record_bytes = 2 * sum(items)
    there, odd_bytes = divmod(path.stat().st_size - header_bytes, record_bytes)
    if (promised >= 0 and promised != there) or odd_bytes or there < 1:
        wants = f"{promised} data records" if promised >= 0 else "whole data records"
        raise DataError(
            f"{path}: the header promises {wants} of {record_bytes} bytes; there are {there} and "
            f"{odd_bytes} bytes ({there * record_s:g} s of signal); the file was cut off or changed"
        )
    return _Layout(header_bytes, there, record_s, tuple(items), tuple(labels), discontinuous)


def _chosen(signals: Sequence[edfio.EdfSignal]) -> tuple[list[edfio.EdfSignal], list[str]]:
    """The voltages at the commonest rate (of two equally common the higher), and who is not."""
    left_out = [f"{s.label}: {why}" for s in signals if (why := _unusable(s))]
    voltages = [s for s in signals if not _unusable(s)]
    if not voltages:
        return [], left_out
    rates = Counter(s.sampling_frequency for s in voltages)
    rate_hz = max(rates, key=lambda rate: (rates[rate], rate))
    left_out += [
        f"{s.label}: {s.sampling_frequency:g} Hz where most signals have {rate_hz:g} Hz"
        for s in voltages
        if s.sampling_frequency != rate_hz
    ]
    return [s for s in voltages if s.sampling_frequency == rate_hz], left_out


def _unusable(signal: edfio.EdfSignal) -> str:
    """Why a signal cannot be had in microvolts, or nothing; ValueError if it has no numbers."""
    if _dimension(signal) not in _MICROVOLTS:
        return f"its unit is '{_dimension(signal)}', not a voltage"
    spans = (signal.physical_range, signal.digital_range)
    return "its range has no width" if any(low == high for low, high in spans) else ""


def _dimension(signal: edfio.EdfSignal) -> str:
    return str(signal.physical_dimension).strip()


def _start_wall(edf: edfio.Edf) -> float | None:
    try:
        return datetime.combine(edf.startdate, edf.starttime, UTC).timestamp()
    except ValueError:  # made anonymous, or no date at all
        return None


def _segments(
    path: Path, layout: _Layout, per_record: int
) -> tuple[tuple[int, ...], tuple[Array, Array] | None]:
    """Where an EDF+D file goes on after a pause: first items of the runs, and their stamps."""
    if not layout.discontinuous or _ANNOTATIONS not in layout.labels:
        return (0,), None
    before = 2 * sum(layout.items[: layout.labels.index(_ANNOTATIONS)])
    onsets_s: list[float] = []
    with path.open("rb") as file:
        for record in range(layout.n_records):
            file.seek(layout.header_bytes + record * layout.record_bytes + before)
            onset = _ONSET.match(file.read(32))
            if onset is None:
                raise DataError(f"{path}: data record {record} does not say when it begins")
            onsets_s.append(float(onset.group()))
    gaps = np.abs(np.diff(onsets_s) - layout.record_s) > 1e-6
    records = [0, *(np.flatnonzero(gaps) + 1).tolist()]
    starts = tuple(record * per_record for record in records)
    times_s = np.array([onsets_s[record] - onsets_s[0] for record in records])
    return starts, (np.array(starts), times_s)
