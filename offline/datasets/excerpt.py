"""A part of a recording as a recording of its own, whose time begins where the part does."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace

import numpy as np

from engine.errors import DataError
from engine.types import Array
from sources.recording import RecordedStream, Recording

__all__ = ["excerpt", "position_at"]

_TOLERANCE = 1e-6  # of an item: a start that is meant to be on one is


def excerpt(
    recording: Recording, start_s: float = 0.0, end_s: float = math.inf, name: str | None = None
) -> Recording:
    """The items that stand in [start_s, end_s), seconds of the recording, counted from 0 anew.

    Streams without an item there are left out; raises DataError if none is left.
    """
    parts = [_part(stream, start_s, end_s) for stream in recording.streams]
    streams = tuple(part for part in parts if part is not None)
    if not streams:
        raise DataError(
            f"{recording.path}: nothing stands from {start_s:g} to {end_s:g} s; it lasts from "
            f"{recording.first_s:g} to {recording.end_s:g} s"
        )
    made = replace(
        recording,
        name=name or recording.name,
        streams=streams,
        markers=tuple((t - start_s, v) for t, v in recording.markers if start_s <= t < end_s),
    )
    if recording.start_wall is not None:  # that of the first item
        wall = recording.start_wall + start_s + made.first_s - recording.first_s
        made = replace(made, start_wall=wall)
    return made


def position_at(stream: RecordedStream, at_s: float) -> int:
    """The first item of a stream that stands at `at_s` or later; the number of items if none."""
    assert stream.info.rate_hz is not None
    if at_s == math.inf:
        return stream.n_items
    early_s = at_s - _TOLERANCE / stream.info.rate_hz
    return bisect_left(range(stream.n_items), early_s, key=stream.time)


def _part(stream: RecordedStream, start_s: float, end_s: float) -> RecordedStream | None:
    first, last = position_at(stream, start_s), position_at(stream, end_s)
    if first >= last:
        return None
    begins = sorted({0} | {at - first for at in stream.segment_starts if first < at < last})

    def read(a: int, b: int) -> Array:
        return stream.read(first + a, first + b)

    return RecordedStream(
        stream.info,
        last - first,
        read,
        _stamps(stream, first, last, start_s),
        _truth(stream, first, last),
        tuple(begins),
    )


def _stamps(stream: RecordedStream, first: int, last: int, start_s: float) -> tuple[Array, Array]:
    """The file's stamps in the part, and one for its first item."""
    positions, times_s = [0], [stream.time(first) - start_s]
    if stream.stamps is not None:
        inside = (stream.stamps[0] > first) & (stream.stamps[0] < last)
        positions += (stream.stamps[0][inside] - first).tolist()
        times_s += (stream.stamps[1][inside] - start_s).tolist()
    return np.array(positions), np.array(times_s)


def _truth(
    stream: RecordedStream, first: int, last: int
) -> tuple[tuple[int, str | None], ...] | None:
    if stream.truth is None:
        return None
    found: dict[int, str | None] = {0: None}
    for position, label in stream.truth:
        if position < last:
            found[max(0, position - first)] = label
    return tuple(found.items())
