"""From a device's chunks to one gapless run of items per segment, each with its place in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.account import Stage
from engine.clockfit import ClockFit, Knot
from engine.types import Array, Chunk, StreamInfo

__all__ = ["GapPolicy", "Run", "Timeline"]

JUMP_S = 1.0  # a stamp this far off the map is a jump, not jitter
RATE_TOLERANCE = 0.01  # measured against declared rate, before it is worth a word
RATE_AFTER_S = 10.0
_LATE_RANGES = 64  # how many filled gaps are remembered to tell a late item from a duplicate

Notify = Callable[[str, float, dict[str, Any]], None]  # code, time_s, detail


@dataclass(frozen=True, slots=True)
class GapPolicy:
    """What becomes of lost items: `mask`, `hold`, `interpolate` fill up to `max_gap_s`; a longer
    gap, and every gap under `break`, opens a new segment. Items out of order are waited for
    while less than `reorder_s` of newer ones is at hand."""

    policy: str = "mask"
    max_gap_s: float = 0.1
    reorder_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive items of one segment under one knot of the clock.

    `data` (time, *item) is finite float32; `valid` (time,) is False where an item was filled in.
    `first` is the index of the first item.
    """

    segment: int
    first: int
    data: Array
    valid: Array
    knot: Knot
    truth: tuple[tuple[int, str | None], ...] = ()


class Timeline:
    """Orders, de-duplicates, fills and places the items of one stream.

    Works item by item in meaning and chunk by chunk in speed: runs depend on the sequence of
    items and stamps alone. Non-finite items are dropped and replaced by invalid ones, so they
    keep their time and poison no state. `stage` counts; `notify` hears of what happened.

    Items that follow each other in number cannot be apart in time, so stamps that jump are the
    device's clock being set, and the items go on where they were; unless `now`, the latest time
    that the session was told, says that so much time did pass (the device was suspended).
    """

    def __init__(
        self,
        info: StreamInfo,
        gaps: GapPolicy,
        stage: Stage,
        notify: Notify,
        now: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        assert info.rate_hz is not None
        self.info = info
        self.segment = -1
        self.next_index = 0  # the index that the next item of this segment should have
        self._first = self._closed = 0  # this segment's first index; items of the segments before
        self.fit: ClockFit | None = None
        self._rate_hz = info.rate_hz
        self._gaps = gaps
        self._max_gap = int(gaps.max_gap_s * info.rate_hz) if gaps.policy != "break" else 0
        self._reorder = int(gaps.reorder_s * info.rate_hz)
        self._stage, self._notify, self._clock = stage, notify, now
        self._source_segment: int | None = None
        self._waiting: list[Chunk] = []  # beyond a hole, ascending, disjoint
        self._filled: list[tuple[int, int]] = []  # [first, end) of filled gaps
        self._row = np.zeros(info.shape, np.float32)  # the last good item
        self._true = np.ones(4096, bool)
        self._offset_s = 0.0  # what the device's stamps are ahead since its clock was reset
        self._pending: Knot | None = None
        self._rate_told = self._refusing = False

    def held(self) -> int:
        """Items that wait for earlier ones."""
        return sum(len(c) for c in self._waiting)

    def push(self, chunk: Chunk, out: Callable[[Run], None]) -> None:
        """Take `chunk` and hand every run that it completes to `out`, in order."""
        n = len(chunk.data)
        self._stage.n_in += n
        if chunk.data.shape[1:] != self.info.shape:
            self._refuse(chunk)
            return
        self._refusing = False
        if chunk.segment != self._source_segment and not self._turn(chunk, out):
            self._stage.drop("late", n)
            return
        if n == 0:
            return
        if self.fit is not None and chunk.first_index == self.next_index and not self._waiting:
            self._emit(chunk, out)
            return
        part = self._start(chunk) if self.fit is None else self._new_part(chunk)
        if part is not None:
            self._insert(part)
        self._release(out)

    def span(self) -> int:
        """Items handed on, by their indices: next minus first, summed over the segments."""
        return self._closed + self.next_index - self._first

    def end(self, out: Callable[[Run], None]) -> None:
        """No more will come (of this segment): stop waiting for what is missing."""
        self._release(out, bound=0)

    def time(self, index: int) -> float:
        """When item `index` of the present segment stands; of use once a run came out."""
        assert self.fit is not None
        return self.fit.knot.time(index)

    def _refuse(self, chunk: Chunk) -> None:
        self._stage.drop("refused", len(chunk))
        if self._refusing:
            return
        self._refusing = True
        declared, came = list(self.info.shape), list(chunk.data.shape[1:])
        why = f"items of shape {came} came where {declared} was declared"
        self._notify("source.refused", self._now(), {"why": why})

    def _now(self) -> float:
        return self.fit.knot.time(self.next_index) if self.fit is not None else 0.0

    def _turn(self, chunk: Chunk, out: Callable[[Run], None]) -> bool:
        """Another segment of the source begins; False if it is one that is over already."""
        if self._source_segment is not None and chunk.segment < self._source_segment:
            return False
        self.end(out)
        self._source_segment = chunk.segment
        self._offset_s = 0.0
        self.fit = None
        return True

    def _start(self, chunk: Chunk) -> Chunk | None:
        """Open a segment at the first stamped item; what comes before it has no place in time."""
        skip = chunk.stamps[0][0] - chunk.first_index if chunk.stamps else len(chunk)
        if skip >= len(chunk):
            self._stage.drop("late", len(chunk))
            return None
        if skip > 0:
            self._stage.drop("late", skip)
            chunk = chunk.cut(skip)[1]
        index, time_s = chunk.stamps[0]
        self._open(index, time_s, lost_from=-1)
        return chunk

    def _open(self, index: int, time_s: float, lost_from: int) -> None:
        """A new segment begins at `index`; items from `lost_from` up to it would be late."""
        self.segment += 1
        self._closed += self.next_index - self._first
        self._first = self.next_index = index
        self.fit = ClockFit(index, time_s, self._rate_hz)
        self._filled = [(lost_from, index)]
        self._rate_told = False

    def _new_part(self, chunk: Chunk) -> Chunk | None:
        """Drop what was seen or filled in before; the rest lies at or beyond the next index."""
        old = min(self.next_index - chunk.first_index, len(chunk))
        if old <= 0:
            return chunk
        first, end = chunk.first_index, chunk.first_index + old
        late = sum(max(0, min(e, end) - max(f, first)) for f, e in self._filled)
        if late:
            self._stage.drop("late", late)
        if old > late:
            self._stage.drop("duplicate", old - late)
        return chunk.cut(old)[1] if old < len(chunk) else None

    def _insert(self, chunk: Chunk) -> None:
        """Put `chunk` in order among the waiting; what is there already is a duplicate."""
        fresh: list[Chunk] = []
        rest: Chunk | None = chunk
        for there in self._waiting:
            if rest is None or rest.first_index + len(rest) <= there.first_index:
                break
            if rest.first_index >= there.first_index + len(there):
                continue
            if rest.first_index < there.first_index:
                head, rest = rest.cut(there.first_index - rest.first_index)
                fresh.append(head)
            overlap = min(len(rest), there.first_index + len(there) - rest.first_index)
            self._stage.drop("duplicate", overlap)
            rest = rest.cut(overlap)[1] if overlap < len(rest) else None
        if rest is not None:
            fresh.append(rest)
        self._waiting = sorted(self._waiting + fresh, key=lambda c: c.first_index)

    def _release(self, out: Callable[[Run], None], bound: int | None = None) -> None:
        """Hand on what is in order; a hole that was waited for long enough is a gap."""
        bound = self._reorder if bound is None else bound
        while self._waiting:
            chunk = self._waiting[0]
            hole = chunk.first_index - self.next_index
            if hole > 0:
                # The gap is declared by the item that completes the bound, wherever it was cut.
                if self.held() <= bound:
                    return
                self._gap(hole, chunk, out)
            del self._waiting[0]
            self._emit(chunk, out)

    def _gap(self, n: int, after: Chunk, out: Callable[[Run], None]) -> None:
        """Fill `n` lost items before `after`, or open a new segment."""
        assert self.fit is not None
        knot, first = self.fit.knot, self.next_index
        lost = {"items": n, "seconds": n / self._rate_hz, "index": first}
        self._notify("stream.gap", knot.time(first), lost)
        if n > self._max_gap:
            time_s = knot.time(after.first_index)
            if after.stamps and after.stamps[0][0] == after.first_index:
                stamp_s = after.stamps[0][1] - self._offset_s
                time_s = stamp_s if abs(stamp_s - time_s) <= JUMP_S else time_s
            self._open(after.first_index, time_s, lost_from=first)
            self._notify("stream.segment", time_s, {"segment": self.segment, "why": "gap"})
            return
        fill = np.repeat(self._row[None], n, axis=0)
        if self._gaps.policy == "interpolate" and np.isfinite(after.data[0]).all():
            share = (np.arange(1, n + 1, dtype=np.float32) / np.float32(n + 1))[
                (slice(None),) + (None,) * self._row.ndim
            ]
            fill = (self._row + share * (after.data[0] - self._row)).astype(np.float32)
        valid = np.full(n, self._gaps.policy != "mask")
        self._stage.make("gap", n)
        self._filled = [*self._filled[1 - _LATE_RANGES :], (first, first + n)]
        self._hand_on(fill, valid, out)

    def _emit(self, chunk: Chunk, out: Callable[[Run], None]) -> None:
        """Hand on a chunk that begins at the next index, cut where its stamps move the clock."""
        data = chunk.data
        if data.dtype != np.float32:
            with np.errstate(over="ignore"):  # beyond float32 is infinity, and so not valid
                data = data.astype(np.float32)
        valid: Array | None = None
        if not np.isfinite(data).all():
            data, valid = self._mend(data)
        n = len(data)
        if valid is None:
            valid = self._true[:n] if n <= 4096 else np.ones(n, bool)
        done, origin = 0, chunk.first_index
        for index, time_s in chunk.stamps:
            at = index - origin
            if not done <= at < n or not self._moves(index, time_s - self._offset_s):
                continue
            if at > done:
                self._hand_on(data[done:at], valid[done:at], out, chunk.truth)
                done = at
            self._move(index, time_s - self._offset_s)
        if done:
            data, valid = data[done:], valid[done:]
        self._hand_on(data, valid, out, chunk.truth)
        self._row = data[-1]

    def _mend(self, data: Array) -> tuple[Array, Array]:
        """Replace non-finite items by the last good one, invalid."""
        good: Array = np.atleast_1d(np.isfinite(data.reshape(len(data), -1)).all(axis=1))
        n_bad = len(data) - int(np.count_nonzero(good))
        self._stage.drop("nonfinite", n_bad)
        self._stage.make("nonfinite", n_bad)
        rows = np.concatenate([self._row[None], data])
        source = np.maximum.accumulate(np.where(good, np.arange(1, len(data) + 1), 0))
        return rows[source], good

    def _moves(self, index: int, time_s: float) -> bool:
        """Whether this stamp changes the map (True), or was only learnt from (False)."""
        fit = self.fit
        assert fit is not None
        self._pending = None
        if abs(fit.residual_s(index, time_s)) > JUMP_S:
            return True
        before = fit.knot
        knot = fit.take(index, time_s)
        if knot is None:
            return False
        fit.knot, self._pending = before, knot
        return True

    def _move(self, index: int, time_s: float) -> None:
        """Let the map change at `index`: a new knot, or after a jump a new segment."""
        fit = self.fit
        assert fit is not None
        if self._pending is not None:
            fit.knot = self._pending
            off = fit.knot.rate_hz / self._rate_hz - 1.0
            if not self._rate_told and fit.seen_s > RATE_AFTER_S and abs(off) > RATE_TOLERANCE:
                self._rate_told = True
                measured_hz = fit.knot.rate_hz
                detail = {"declared_hz": self._rate_hz, "measured_hz": measured_hz,
                          "ratio": measured_hz / self._rate_hz}  # fmt: skip
                self._notify("stream.rate", fit.knot.time(index), detail)
            return
        jump_s = fit.residual_s(index, time_s)
        rebased = jump_s < 0.0 or self._clock() < time_s - JUMP_S
        at = fit.knot.time(index) if rebased else time_s
        self._offset_s += jump_s if rebased else 0.0
        self._open(index, at, lost_from=index)
        why = {"segment": self.segment, "why": "jump", "jump_s": jump_s, "rebased": rebased}
        self._notify("stream.segment", at, why)

    def _hand_on(
        self,
        data: Array,
        valid: Array,
        out: Callable[[Run], None],
        truth: tuple[tuple[int, str | None], ...] = (),
    ) -> None:
        n = len(data)
        if n == 0:
            return
        assert self.fit is not None
        first = self.next_index
        self.next_index = first + n
        self._stage.n_out += n
        if truth:
            truth = tuple(entry for entry in truth if first <= entry[0] < first + n)
        out(Run(self.segment, first, data, valid, self.fit.knot, truth))
