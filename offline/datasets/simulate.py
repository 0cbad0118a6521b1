"""Simulated participants as a data set: seeded people whose true state is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.errors import ConfigError, EndOfStream
from engine.types import Array
from offline.datasets import LabelledRecording
from sources.recording import RecordedStream, Recording
from sources.simulate import SimulateSource

__all__ = ["FIRST", "N_PEOPLE", "SECONDS", "open_person", "people", "recordings"]

FIRST = 1000  # the first 40 train the shipped bundles; tests use people below 1000
N_PEOPLE = 60
SECONDS = 120.0


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


def open_person(name: str, seconds: float = SECONDS) -> Recording:
    """`person-7` as a recording of the simulated EEG, made here and now."""
    try:
        person = int(name.removeprefix("person-"))
    except ValueError as error:
        raise ConfigError(f"'{name}' is no simulated participant; expected person-7") from error
    parts: list[Array] = []
    truth: list[tuple[int, str | None]] = []
    with SimulateSource(person=person, seconds=seconds, speed="max", stream="eeg") as source:
        info = source.info
        while True:
            try:
                chunk = source.read(1.0)
            except EndOfStream:
                break
            if chunk is not None:
                parts.append(chunk.data)
                truth.extend(chunk.truth)
    data = np.concatenate(parts)
    stream = RecordedStream(info, len(data), lambda a, b: data[a:b], truth=tuple(truth))
    return Recording(name, Path(name), (stream,))
