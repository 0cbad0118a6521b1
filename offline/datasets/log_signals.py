"""The raw signals of our own recording as a recording's streams: what the sources gave, as it came.

An index that jumps begins a new segment, as a reconnected source does: nothing is made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine import wire
from engine.errors import DataError
from engine.log import LogReader
from engine.types import Array, Chunk, Marker, StreamInfo
from sources.recording import RecordedStream, Recording

__all__ = ["signals"]


@dataclass(slots=True)
class _Track:
    """The chunks of one stream, strung together."""

    info: StreamInfo
    n_items: int = 0
    data: list[Array] = field(default_factory=list)
    stamps: list[tuple[int, float]] = field(default_factory=list)
    truth: list[tuple[int, str | None]] = field(default_factory=list)
    segment_starts: list[int] = field(default_factory=list)
    expected: tuple[int, int] | None = None  # segment and index of the next item

    def add(self, chunk: Chunk) -> None:
        """Put a chunk behind the others."""
        if self.expected != (chunk.segment, chunk.first_index):
            self.segment_starts.append(self.n_items)
        shift = self.n_items - chunk.first_index
        self.stamps += [(index + shift, t) for index, t in chunk.stamps]
        self.truth += [(index + shift, label) for index, label in chunk.truth]
        self.data.append(chunk.data)
        self.n_items += len(chunk)
        self.expected = chunk.segment, chunk.first_index + len(chunk)


def signals(path: Path) -> Recording:
    """The streams and markers of the recording at `path`; time 0 is where its session began.

    A stream without a nominal rate, such as a camera's, has no grid to stand on; it is left out
    and named in `warnings`. Raises DataError if there are no raw signals.
    """
    reader = LogReader(path)
    header = reader.header
    if not header.raw:
        raise DataError(f"{path}: holds no raw signals; record with raw: true")
    infos = dict(header.streams)
    tracks: dict[str, _Track] = {}
    markers = []
    for record in reader:
        if record.kind == "command" and record.payload.verb == "connect":
            infos[record.payload.args["stream"]] = record.payload.args["info"]
        elif record.kind == "chunk" and len(record.payload):
            track = tracks.setdefault(record.payload.stream, _Track(infos[record.payload.stream]))
            track.add(record.payload)
        elif record.kind == "marker":
            marker = wire.decode("marker", record.payload)
            assert isinstance(marker, Marker)
            markers.append((marker.t - header.origin_s, marker.value))
    regular = {name: t for name, t in tracks.items() if t.info.rate_hz is not None}
    if not regular:
        raise DataError(f"{path}: no stream with a rate has an item in it")
    left_out = tuple(f"stream '{n}' has no rate" for n in tracks if n not in regular)
    streams = tuple(_stream(track, header.origin_s) for track in regular.values())
    made = Recording(path.stem, path, streams, tuple(sorted(markers)), None, left_out)
    if header.started_wall is None:
        return made
    wall = header.started_wall + made.first_s
    return Recording(path.stem, path, streams, made.markers, wall, left_out)


def _stream(track: _Track, origin_s: float) -> RecordedStream:
    data = np.concatenate(track.data)
    positions, times_s = _ascending(track.stamps)
    return RecordedStream(
        track.info,
        track.n_items,
        lambda first, last: data[first:last].copy(),
        (positions, times_s - origin_s) if len(positions) else None,
        tuple(track.truth) or None,
        tuple(track.segment_starts),
    )


def _ascending(stamps: Sequence[tuple[int, float]]) -> tuple[Array, Array]:
    """Positions and seconds of the stamps, the last one of each position."""
    kept = dict(sorted(stamps, key=lambda stamp: stamp[0]))
    return np.array([*kept], np.int64), np.array([*kept.values()], np.float64)
