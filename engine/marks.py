"""A stream of markers: no grid, no windows; each is told at its own time."""

from __future__ import annotations

from collections.abc import Callable

from engine.account import Stage
from engine.types import Chunk, StreamInfo, Window

__all__ = ["MarkLane"]


class MarkLane:
    """Hands every marker to `tell(value, stream, time_s)`; stands where a Lane does.

    A marker without a stamp has no place in time and is dropped as late, one that came before as
    duplicate.
    """

    def __init__(
        self,
        stream: str,
        info: StreamInfo,
        counted: Stage,
        tell: Callable[[str, str, float], None],
    ) -> None:
        self.stream, self.info, self.next_tick = stream, info, 1
        self.begun, self.truth = False, None
        self.timeline = self
        self._counted, self._tell = counted, tell
        self._segment, self._seen, self._time_s = -1, -1, 0.0

    def push(self, chunk: Chunk) -> None:
        """Tell the markers of a chunk, in order."""
        self._counted.n_in += len(chunk)
        if chunk.segment < self._segment:
            self._counted.drop("late", len(chunk))
            return
        if chunk.segment > self._segment:
            self._segment, self._seen = chunk.segment, -1
        stamps = dict(chunk.stamps)
        for i, row in enumerate(chunk.data):
            index = chunk.first_index + i
            if index <= self._seen:
                self._counted.drop("duplicate", 1)
                continue
            self._seen = index
            if index not in stamps:
                self._counted.drop("late", 1)
                continue
            self.begun, self._time_s = True, max(self._time_s, stamps[index])
            self._counted.n_out += 1
            self._tell(str(row[0]), self.stream, stamps[index])

    def held(self) -> int:
        """No marker is kept waiting."""
        return 0

    def end(self) -> None:
        """No more will come."""

    def end_s(self) -> float:
        """When the last marker stood."""
        return self._time_s

    def advance_to(self, tick: int) -> None:
        """Markers wait for no tick."""

    def catch_up(self) -> None:
        """Markers carry no truth."""

    def window(self, tick: int) -> Window | None:
        """There are no windows of markers."""
        return None

    def last_window(self) -> Window | None:
        """There are no windows of markers."""
        return None
