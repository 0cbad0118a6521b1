"""A recording as EDF+: one file per stream, markers and labels as annotations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from engine.errors import DataError
from engine.timeline import Run
from engine.types import Marker, Prediction, StreamInfo
from sinks.export.recorded import Recorded
from sinks.export.sheets import Sheet, sheets

__all__ = ["Annotation", "edf", "gathered", "told", "write_edf"]

Annotation = tuple[float, str]  # engine seconds, text
_KINDS = ("eeg", "physio")
_LOST = "BAD_ACQ_SKIP"  # the word that MNE skips by
_RECORDS_S = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64, 100)  # lengths of a data record


def edf(recorded: Recorded, folder: Path) -> list[Path]:
    """Write every EEG and physiological stream to a file below `folder`; returns their paths.

    EDF has 16 bits: a value is off by at most 1/65535 of its channel's range. Samples follow
    each other at the declared rate, and annotations stand at the sample that they came with; what
    was lost is filled with zeros and annotated `BAD_ACQ_SKIP`. A pause of over a minute begins
    another file, since EDF+C has none.
    """
    streams, said = gathered(recorded, _KINDS)
    written = []
    for info, found in streams:
        for k, sheet in enumerate(found, 1):
            more = f"-{k}" if k > 1 else ""
            path = folder / f"{recorded.name}_{info.name}{more}.edf"
            write_edf(sheet, path, said, recorded.header.session, recorded.header.wall_offset_s)
            written.append(path)
    if not written:
        raise DataError(f"{recorded.path}: no EEG or physiological signal in it for EDF")
    return written


def gathered(
    recorded: Recorded, kinds: Sequence[str]
) -> tuple[list[tuple[StreamInfo, list[Sheet]]], list[Annotation]]:
    """The streams of `kinds`, each on its sample clock, and what was said meanwhile."""
    runs: dict[str, tuple[StreamInfo, list[Run]]] = {}
    said = []
    for item in recorded.runs():
        if not isinstance(item, tuple):
            said.append(item)
            continue
        info, run = item
        if info.kind in kinds and isinstance(run, Run) and len(info.shape) == 1:
            runs.setdefault(info.name, (info, []))[1].append(run)
        elif info.kind != "marker":
            recorded.warn(f"{info.name}: the format has no place for it; csv and xdf have")
    streams = []
    for info, found in runs.values():
        if _record_s(info.rate_hz or 0.0) is None:
            recorded.warn(f"{info.name}: {info.rate_hz} Hz fit no EDF record; use csv or xdf")
            continue
        streams.append((info, sheets(info, found)))
    return streams, told(said)


def told(said: Iterable[object]) -> list[Annotation]:
    """Markers, and each change of the predicted label as `label:happy`."""
    found: list[Annotation] = []
    label: str | None = None
    for message in said:
        if isinstance(message, Marker):
            found.append((message.t, message.value))
        elif isinstance(message, Prediction) and message.label != label:
            label = message.label
            found.append((message.t, f"label:{label or 'none'}"))
    return sorted(found)


def write_edf(
    sheet: Sheet,
    path: Path,
    said: Sequence[Annotation],
    person: str,
    wall_offset_s: float | None,
) -> None:
    """One EDF+C file of `sheet`; `wall_offset_s` leads from engine seconds to Unix seconds."""
    import edfio

    record_s = _record_s(sheet.rate_hz)
    assert record_s is not None
    n = len(sheet.data)
    size = round(record_s * sheet.rate_hz)
    padded = -(-n // size) * size  # whole records
    data = np.zeros((padded, len(sheet.info.channels)))
    data[:n] = sheet.data
    data[n:] = sheet.data[-1]
    signals = [
        edfio.EdfSignal(
            np.ascontiguousarray(data[:, i]),
            sheet.rate_hz,
            label=_plain(channel, 16),
            physical_dimension=_plain(sheet.info.unit, 8),
            physical_range=_range(data[:, i]),
        )
        for i, channel in enumerate(sheet.info.channels)
    ]
    notes = [edfio.EdfAnnotation(at, length, _LOST) for at, length in sheet.lost()]
    if padded > n:
        notes.append(edfio.EdfAnnotation(sheet.length_s, (padded - n) / sheet.rate_hz, _LOST))
    for t, text in said:
        if 0 <= (onset_s := sheet.onset_s(t)) <= sheet.length_s:
            notes.append(edfio.EdfAnnotation(round(onset_s, 6), None, text))
    about = edfio.Recording(equipment_code="vagus")
    start = None
    if wall_offset_s is not None:
        began = datetime.fromtimestamp(sheet.start_s + wall_offset_s, UTC)
        about = edfio.Recording(startdate=began.date(), equipment_code="vagus")
        start = began.time()
    edfio.Edf(
        signals,
        patient=edfio.Patient(code=_plain(person, 40).replace(" ", "_")),
        recording=about,
        starttime=start,
        data_record_duration=record_s,
        annotations=sorted(notes),
    ).write(str(path))


def _range(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float] | None:
    """The physical range of a channel that stands still; else the file's own, from the data."""
    low, high = float(values.min()), float(values.max())
    return (np.floor(low) - 1.0, np.ceil(high) + 1.0) if low == high else None


def _record_s(rate_hz: float) -> float | None:
    """How many seconds a data record lasts, so that it holds a whole number of samples."""
    return next((s for s in _RECORDS_S if (s * rate_hz).is_integer() and s * rate_hz > 0), None)


def _plain(text: str, n: int) -> str:
    """EDF's header has printable ASCII alone."""
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text.replace("µ", "u"))[:n]
