"""Simulated participants as a data set: seeded people whose true state is known."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np

from engine.errors import ConfigError, EndOfStream
from engine.types import Array
from offline.datasets import LabelledRecording
from sources.participant import LatentState
from sources.recording import RecordedStream, Recording
from sources.simulate import SimulateSource

__all__ = [
    "FIRST",
    "KINDS",
    "N_PEOPLE",
    "SECONDS",
    "open_part",
    "open_person",
    "people",
    "recordings",
]

FIRST = 1000  # the first 40 train the shipped bundles; tests use people below 1000
N_PEOPLE = 60
SECONDS = 120.0
KINDS = ("eeg", "skin", "pulse", "voice", "face")


def people(first: int, n: int) -> list[LabelledRecording]:
    """`n` simulated participants; the label of each window is their state at its end."""
    return [
        LabelledRecording(
            uid=f"person-{person}/session",
            dataset="simulate",
            subject=f"person-{person}",
            label="",
            path=Path(f"person-{person}"),
        )
        for person in range(first, first + n)
    ]


def recordings(root: str | Path | None = None) -> list[LabelledRecording]:
    """Sixty people, of whom the shipped bundles saw the first forty; no files, so no root."""
    return people(FIRST, N_PEOPLE)


def open_part(recording: LabelledRecording) -> Recording:
    """All simulated kinds of one person, as streams."""
    return open_person(recording.path.name)


def open_person(name: str, seconds: float = SECONDS) -> Recording:
    """`person-7` as a recording of all simulated kinds; a stream is made when it is first read."""
    try:
        person = int(name.removeprefix("person-"))
    except ValueError as error:
        raise ConfigError(f"'{name}' is no simulated participant; expected person-7") from error
    return Recording(name, Path(name), tuple(_stream(person, kind, seconds) for kind in KINDS))


def _stream(person: int, kind: str, seconds: float) -> RecordedStream:
    source = SimulateSource(person=person, kind=kind, seconds=seconds, speed="max")
    rate_hz = source.info.rate_hz
    assert rate_hz is not None

    @cache
    def made() -> Array:
        parts: list[Array] = []
        with source:
            while True:
                try:
                    chunk = source.read(1.0)
                except EndOfStream:
                    return np.concatenate(parts)
                if chunk is not None:
                    parts.append(chunk.data)

    changes = LatentState(person).changes(-1.0, seconds)
    truth = tuple((max(0, math.ceil(t * rate_hz)), label) for t, label in changes)
    n_items = max(1, round(seconds * rate_hz))
    return RecordedStream(source.info, n_items, lambda a, b: made()[a:b], truth=truth)
