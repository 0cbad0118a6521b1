"""An opened recording: its streams, read piece by piece, its markers, its place in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.types import Array, StreamInfo

__all__ = ["RecordedStream", "Recording"]


@dataclass(frozen=True, slots=True)
class RecordedStream:
    """One stream of a recording.

    `read(first, last)` gives the items [first, last) as float32 (time, *item). `stamps` are the
    file's own clock where it has one: ascending item positions (n,) and their seconds (n,);
    without it item j stands at j / rate. `truth` is ((position, label), ...): from there on.
    Positions count from 0 through the whole file; a new segment begins at each of
    `segment_starts`.
    """

    info: StreamInfo
    n_items: int
    read: Callable[[int, int], Array]
    stamps: tuple[Array, Array] | None = None
    truth: tuple[tuple[int, str | None], ...] | None = None
    segment_starts: tuple[int, ...] = (0,)

    @property
    def segments(self) -> int:
        """How many segments it has."""
        return len(self.segment_starts)

    @property
    def end_s(self) -> float:
        """When its last item is over, in seconds of the recording."""
        assert self.info.rate_hz is not None
        return self.time(self.n_items - 1) + 1.0 / self.info.rate_hz

    def time(self, position: int) -> float:
        """Where item `position` stands, in seconds of the recording."""
        assert self.info.rate_hz is not None
        if self.stamps is None:
            return position / self.info.rate_hz
        positions, times_s = self.stamps
        k = max(0, int(np.searchsorted(positions, position, side="right")) - 1)
        return float(times_s[k]) + (position - int(positions[k])) / self.info.rate_hz


@dataclass(frozen=True, slots=True)
class Recording:
    """An opened file. `markers` are ((time_s, value), ...); `start_wall` is Unix seconds.

    `warnings` name what the file has and the streams leave out.
    """

    name: str
    path: Path
    streams: tuple[RecordedStream, ...]
    markers: tuple[tuple[float, str], ...] = ()
    start_wall: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def first_s(self) -> float:
        """When its first item stands, over all streams."""
        return min(stream.time(0) for stream in self.streams)

    @property
    def end_s(self) -> float:
        """When its last item is over, over all streams."""
        return max(stream.end_s for stream in self.streams)
