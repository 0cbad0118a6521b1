"""A stream on one steady sample clock, as EDF and BIDS want it: gaps filled, and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from engine.timeline import Run
from engine.types import Array, StreamInfo

__all__ = ["Sheet", "sheets"]

_JOIN_S = 60.0  # a longer pause begins another file
_Row = tuple[int, Run]  # where it begins, what it holds


@dataclass(frozen=True, slots=True)
class Sheet:
    """`data` (time, channels) at the declared rate from `start_s` on; `valid` (time,) is False
    where items were lost, broken, or between two segments.

    `at_s` (k,) and `at` (k,) tell at which times which samples stand: a device's clock drifts,
    so a time finds its sample here, not by the rate.
    """

    info: StreamInfo
    start_s: float
    data: Array
    valid: Array
    at_s: Array
    at: Array

    @property
    def rate_hz(self) -> float:
        """The declared rate."""
        assert self.info.rate_hz is not None
        return self.info.rate_hz

    @property
    def length_s(self) -> float:
        """How long it is by its own sample clock."""
        return len(self.data) / self.rate_hz

    def onset_s(self, t: float) -> float:
        """Where engine time `t` stands, in seconds of this sample clock; negative before it."""
        if t < self.at_s[0]:
            return float(self.at[0] / self.rate_hz + t - self.at_s[0])
        if t > self.at_s[-1]:
            return float(self.at[-1] / self.rate_hz + t - self.at_s[-1])
        return float(np.interp(t, self.at_s, self.at) / self.rate_hz)

    def lost(self) -> Iterator[tuple[float, float]]:
        """(onset, duration) in seconds of every stretch that is not valid."""
        at = 0
        for valid, items in groupby(self.valid.tolist()):
            n = sum(1 for _ in items)
            if not valid:
                yield at / self.rate_hz, n / self.rate_hz
            at += n


def sheets(info: StreamInfo, runs: list[Run]) -> list[Sheet]:
    """The runs of one stream; a pause over a minute, or a clock set back, begins another sheet."""
    assert info.rate_hz is not None
    made: list[list[_Row]] = []
    segment, end, end_s = None, 0, 0.0
    for run in runs:
        start_s = run.knot.time(run.first)
        if segment != run.segment:
            pause_s = start_s - end_s
            if not made or pause_s > _JOIN_S or pause_s < -1.0:
                made.append([])
                end = 0
            else:
                end += max(0, round(pause_s * info.rate_hz))
            segment = run.segment
        made[-1].append((end, run))
        end += len(run.data)
        end_s = run.knot.time(run.first + len(run.data))
    return [_sheet(info, rows) for rows in made]


def _sheet(info: StreamInfo, rows: list[_Row]) -> Sheet:
    last, run = rows[-1]
    n = last + len(run.data)
    data = np.zeros((n, *info.shape), np.float32)
    valid = np.zeros(n, bool)
    for at, run in rows:
        data[at : at + len(run.data)] = run.data
        valid[at : at + len(run.data)] = run.valid
    edges = [(at, run.knot.time(run.first)) for at, run in rows]
    edges.append((n - 1, rows[-1][1].knot.time(rows[-1][1].first + len(rows[-1][1].data) - 1)))
    at_s = np.maximum.accumulate([t for _, t in edges])
    return Sheet(info, float(at_s[0]), data, valid, at_s, np.array([at for at, _ in edges]))
