"""Our own recordings as a data set: their raw signals, and the labels that markers gave.

A marker whose value is a canonical label, `stress` or `label=stress`, starts that truth;
`label=` ends it. Whom a recording observes is the name of its session.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from engine.errors import DataError
from engine.log import LogReader
from offline.datasets import Broken, LabelledRecording
from offline.datasets.excerpt import position_at
from offline.datasets.log_signals import signals
from offline.labels import CANONICAL
from sources.files import recordings_below
from sources.recording import RecordedStream, Recording

__all__ = ["LABELS", "LICENCE", "OPTIONS", "broken", "left_out", "open_part", "recordings"]

LABELS: tuple[str, ...] = ()  # whatever the markers say
LICENCE = "as its owner says"
OPTIONS: dict[str, tuple[str, ...]] = {}
_PREFIX = "label="


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The .mcap recordings below `root` that hold raw signals; raises DataError if none does."""
    found = []
    for path in recordings_below(root, {".mcap"}):
        header = LogReader(path).header
        if header.raw:
            subject = f"recording-{header.session.replace('/', '-')}"
            found.append(
                LabelledRecording(
                    uid=f"{subject}/{path.stem}",
                    dataset="recording",
                    subject=subject,
                    label="",
                    path=path,
                    session=path.stem,
                )
            )
    if not found:
        raise DataError(f"{root}: its recordings hold no raw signals; record with raw: true")
    return found


def broken(root: str | Path) -> list[Broken]:
    """Recordings that are damaged, or in which no marker names a label."""
    faults = []
    for recording in recordings(root):
        try:
            streams = open_part(recording).streams
        except DataError as error:
            faults.append(Broken(str(recording.path), str(error)))
            continue
        if all(stream.truth is None for stream in streams):
            why = "no marker names a label; need markers such as label=stress"
            faults.append(Broken(str(recording.path), why))
    return faults


def left_out(root: str | Path) -> list[Broken]:
    """Recordings without raw signals."""
    return [
        Broken(str(path), "holds no raw signals (raw: false)")
        for path in recordings_below(root, {".mcap"})
        if not LogReader(path).header.raw
    ]


def open_part(recording: LabelledRecording) -> Recording:
    """The streams that were recorded, with the truth of the markers, else that of the sources."""
    opened = signals(recording.path)
    changes = [(t, label) for t, value in opened.markers for label in _label(value)]
    if not changes:
        return opened
    streams = tuple(replace(s, truth=_truth(s, changes)) for s in opened.streams)
    return replace(opened, streams=streams)


def _label(value: str) -> tuple[str | None, ...]:
    """The label that a marker starts, None where it ends one; nothing if it is about another."""
    label = value.strip().removeprefix(_PREFIX)
    if label in CANONICAL:
        return (label,)
    return (None,) if value.strip() == _PREFIX else ()


def _truth(
    stream: RecordedStream, changes: Iterable[tuple[float, str | None]]
) -> tuple[tuple[int, str | None], ...]:
    truth: dict[int, str | None] = {0: None}
    for at_s, label in changes:
        if (position := position_at(stream, at_s)) < stream.n_items:
            truth[position] = label
    return tuple(truth.items())
