"""A recording as CSV tables: predictions, markers, events, signals; sound and pictures beside."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from engine.timeline import Run
from engine.types import Chunk, Event, Marker, Prediction, StreamInfo
from sinks.export.media import Pictures, Sound
from sinks.export.recorded import Recorded
from sinks.table import columns, row

__all__ = ["tables"]


def tables(recorded: Recorded, folder: Path) -> list[Path]:
    """Write `NAME_predictions.csv`, `NAME_markers.csv`, `NAME_events.csv` and `NAME_STREAM.csv`.

    `t` is seconds of the engine's clock in all of them. A signal has a row per item, in order and
    in time as the engine had it; cells of lost items are empty. A voice has a WAV file per
    segment, a camera a folder of pictures, and their tables tell when each begins.
    """
    with ExitStack() as stack:
        books: dict[str, _Book] = {}
        labels = recorded.labels()

        def book(name: str, head: Sequence[str]) -> _Book:
            if name not in books:
                books[name] = _Book(folder / f"{recorded.name}_{name}.csv", head)
                stack.callback(books[name].close)
            return books[name]

        for item in recorded.runs():
            if isinstance(item, tuple):
                info, items = item
                head = _HEADS.get(info.kind, ("t", "segment", "index", *info.channels))
                book(info.name, head).add(recorded, info, items)
            elif isinstance(item, Prediction):
                book("predictions", columns(labels)).row(row(item, labels))
            elif isinstance(item, Marker):
                cells = (item.t, item.t_wall, item.stream, item.value)
                book("markers", ("t", "t_wall", "stream", "value")).row(cells)
            elif isinstance(item, Event):
                about = (item.t, item.t_wall, item.code, item.stream, json.dumps(item.detail))
                book("events", ("t", "t_wall", "code", "stream", "detail")).row(about)
    return [path for one in books.values() for path in one.paths()]


_HEADS = {
    "voice": ("t", "segment", "index", "n", "file"),
    "face": ("t", "segment", "index", "file"),
    "marker": ("t", "segment", "index", "value"),
}


class _Book:
    """One table, with the sound or the pictures that it names."""

    def __init__(self, path: Path, head: Sequence[str]) -> None:
        self._path = path
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(head)
        self._sound: Sound | None = None
        self._pictures: Pictures | None = None
        self._segment = -1

    def paths(self) -> list[Path]:
        """All files that were written."""
        beside = [] if self._pictures is None else [self._pictures.folder]
        return [self._path, *beside, *(self._sound.paths if self._sound else ())]

    def close(self) -> None:
        self._file.close()
        if self._sound is not None:
            self._sound.close()

    def row(self, values: Sequence[Any]) -> None:
        """One line; None is an empty cell."""
        self._rows.writerow(["" if value is None else value for value in values])

    def add(self, recorded: Recorded, info: StreamInfo, items: Run | Chunk) -> None:
        """The lines of some items of a stream."""
        if isinstance(items, Run):
            self._signal(info, items)
        elif info.kind == "face":
            self._show(info, items)
        elif len(info.shape) == 1:
            times = dict(items.stamps)
            for i, cells in enumerate(items.data.tolist(), items.first_index):
                self.row((times.get(i), items.segment, i, *cells))
        else:
            recorded.warn(f"{info.name}: items of shape {info.shape} have no place in a table")

    def _signal(self, info: StreamInfo, run: Run) -> None:
        if info.kind == "voice":
            self._hear(info, run)
            return
        for i in range(len(run.data)):
            cells = run.data[i].tolist() if run.valid[i] else [None] * len(info.channels)
            self.row((run.knot.time(run.first + i), run.segment, run.first + i, *cells))

    def _hear(self, info: StreamInfo, run: Run) -> None:
        if self._sound is None:
            self._sound = Sound(self._path.with_suffix(".wav"), info)
        if run.segment != self._segment:
            self._segment = run.segment
            self._sound.begin()
        file = self._sound.paths[-1].name
        self.row((run.knot.time(run.first), run.segment, run.first, len(run.data), file))
        self._sound.add(np.where(run.valid[:, None], run.data, 0.0))

    def _show(self, info: StreamInfo, chunk: Chunk) -> None:
        if self._pictures is None:
            self._pictures = Pictures(self._path.with_suffix(""))
        numbers = self._pictures.add(info, chunk.data)[:, 0].tolist()
        times = dict(chunk.stamps)
        suffix = "jpg" if chunk.data.dtype == object else "png"
        for k, number in enumerate(numbers):
            i = chunk.first_index + k
            name = f"{self._path.stem}/{number:06d}.{suffix}"
            self.row((times.get(i), chunk.segment, i, name))
