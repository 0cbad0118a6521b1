"""From irregular pictures to a regular grid of items: sample and hold, by their logged stamps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from engine.account import Stage
from engine.clockfit import ClockFit
from engine.timeline import JUMP_S, Notify, Run
from engine.types import Array, Chunk, StreamInfo

__all__ = ["STALE_S", "HeldGrid"]

STALE_S = 0.5  # from its stamp on a picture may stand for the present


class HeldGrid:
    """Puts a stream without a rate, or of another, on a grid of `rate_hz`; has the ways of a
    Timeline. Where the stream has a rate, a picture without a stamp follows the last that has one.

    Item j stands at first + j / rate and is the newest picture with a stamp up to there. It comes
    out once a later picture has come, so what comes out depends on pictures and stamps alone. A
    picture older than `stale_s` stands there still, invalid. Pictures that no item needed are
    dropped as stale, items beyond a picture's first are made as repeat. Stamps that jump back, or
    ahead by over a second, open a new segment.
    """

    def __init__(
        self,
        info: StreamInfo,
        rate_hz: float,
        stage: Stage,
        notify: Notify,
        stale_s: float = STALE_S,
    ) -> None:
        self.info = info
        self.segment = -1
        self.next_index = 0  # of the grid
        self.fit: ClockFit | None = None
        self._rate_hz, self._stage, self._notify, self._stale_s = rate_hz, stage, notify, stale_s
        self._first = self._closed = 0
        self._source_segment: int | None = None
        self._seen = -1  # the last picture's index in its source segment
        self._anchor: tuple[int, float] | None = None  # the last stamp in it: index and seconds
        self._picture: Array | None = None  # the one that is held, (1, *item)
        self._time_s = -math.inf
        self._used = False  # whether it came out already
        self._truth: list[tuple[int, str | None]] = []

    def held(self) -> int:
        """The picture that waits for its first item."""
        return int(self._picture is not None and not self._used)

    def span(self) -> int:
        """Items handed on, by their indices, summed over the segments."""
        return self._closed + self.next_index - self._first

    def time(self, index: int) -> float:
        """When item `index` of the present segment stands."""
        assert self.fit is not None
        return self.fit.knot.time(index)

    def push(self, chunk: Chunk, out: Callable[[Run], None]) -> None:
        """Take pictures, each with its stamp, and hand on the items that they complete."""
        n = len(chunk)
        self._stage.n_in += n
        if self._source_segment is not None and chunk.segment < self._source_segment:
            self._stage.drop("late", n)
            return
        if chunk.segment != self._source_segment:
            self.end(out)
            self._source_segment, self._seen, self._anchor = chunk.segment, -1, None
        stamps, truths = dict(chunk.stamps), dict(chunk.truth)
        found: list[tuple[Array, bool]] = []
        for i in range(n):
            index = chunk.first_index + i
            if index <= self._seen:
                self._stage.drop("duplicate", 1)
                continue
            self._seen = index
            if index in truths:
                self._truth.append((self.next_index + len(found), truths[index]))
            time_s = self._stamp(index, stamps)
            if time_s is None:
                self._stage.drop("late", 1)  # it has no place in time
                continue
            self._take(chunk.data[i : i + 1], time_s, found, out)
        self._hand_on(found, out)

    def end(self, out: Callable[[Run], None]) -> None:
        """No more will come of this segment: the last picture gets its item."""
        if self._picture is None:
            return
        found: list[tuple[Array, bool]] = []
        if not self._used:
            found.append((self._picture, self._fresh(self.next_index)))
            self._used = True
        self._hand_on(found, out)
        self._picture = None

    def _take(
        self,
        picture: Array,
        time_s: float,
        found: list[tuple[Array, bool]],
        out: Callable[[Run], None],
    ) -> None:
        """Hold one more picture, after the items for which the one before stands."""
        if not math.isfinite(time_s):
            self._stage.drop("nonfinite", 1)
            return
        if self._picture is not None and not 0 <= time_s - self._time_s <= JUMP_S:
            jump_s = time_s - self._time_s
            self._hand_on(found, out)
            found.clear()
            self.end(out)
            self._notify("stream.gap", self._time_s, {"seconds": jump_s})
        if self._picture is None:
            self._open(time_s)
        else:
            at = self.next_index + len(found)
            while self.time(at) < time_s:
                found.append((self._picture, self._fresh(at)))
                if self._used:
                    self._stage.make("repeat", 1)
                self._used = True
                at += 1
            if not self._used:
                self._stage.drop("stale", 1)
        self._picture, self._time_s, self._used = picture, time_s, False

    def _stamp(self, index: int, stamps: Mapping[int, float]) -> float | None:
        """When picture `index` was taken, as far as that is told."""
        if index in stamps:
            self._anchor = (index, stamps[index])
        if self._anchor is None:
            return None
        at, time_s = self._anchor
        if index == at:
            return time_s
        return None if self.info.rate_hz is None else time_s + (index - at) / self.info.rate_hz

    def _fresh(self, index: int) -> bool:
        return self.time(index) - self._time_s <= self._stale_s

    def _open(self, time_s: float) -> None:
        """A new segment begins with a picture at `time_s`."""
        self.segment += 1
        self._closed += self.next_index - self._first
        self._first = self.next_index
        self.fit = ClockFit(self.next_index, time_s, self._rate_hz)
        if self.segment:
            self._notify("stream.segment", time_s, {"segment": self.segment, "why": "gap"})

    def _hand_on(self, found: list[tuple[Array, bool]], out: Callable[[Run], None]) -> None:
        if not found:
            return
        assert self.fit is not None
        first, n = self.next_index, len(found)
        self.next_index = first + n
        self._stage.n_out += n
        data = np.concatenate([picture for picture, _ in found])
        valid = np.array([fresh for _, fresh in found])
        due = [entry for entry in self._truth if entry[0] < first + n]
        self._truth = [entry for entry in self._truth if entry[0] >= first + n]
        truth = tuple((max(index, first), label) for index, label in due)
        out(Run(self.segment, first, data, valid, self.fit.knot, truth))
