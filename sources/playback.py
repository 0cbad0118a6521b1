"""Deliveries in event time, handed out when their moment has come on the injected clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.clock import Clock
from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Chunk

__all__ = ["Delivery", "Playback", "check_speed"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A chunk, or the news that the device went away, and when it arrives.

    `due_s` counts from the moment the device starts. `at` is how many items the device had made
    before this chunk since it started; unlike an index it never begins again.
    """

    due_s: float
    at: int
    what: Chunk | SourceLost


def check_speed(speed: float | str) -> float | None:
    """The factor of real time, None for "max"; raises ConfigError for anything else."""
    if speed == "max":
        return None
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed < 1e9:
        raise ConfigError(f"speed: {speed!r} is neither a number above 0 nor 'max'")
    return float(speed)


class Playback:
    """Paces deliveries: the body of a source's `read`.

    Stamps within the deliveries are seconds of the recording, which starts at `first_s`. They
    come out with its start moved to `origin_s`, which is also when on the clock it starts: who
    comes late catches up. Without an origin it starts now, and so do its stamps where it is
    paced; unpaced ones are kept. `speed` None waits for nothing.
    """

    def __init__(
        self,
        deliveries: Iterator[Delivery],
        clock: Clock,
        speed: float | None,
        origin_s: float | None,
        first_s: float = 0.0,
    ) -> None:
        self._deliveries, self._clock, self._speed = deliveries, clock, speed
        self._start_s = clock.now() if origin_s is None else origin_s
        moved = speed is not None or origin_s is not None
        self._shift_s = self._start_s - first_s if moved else 0.0
        self._next: Delivery | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """End it, also for a `read` that waits in another thread; closing twice is fine."""
        self._closed.set()

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, None after `timeout_s`; raises EndOfStream and SourceLost."""
        if self._closed.is_set():
            raise EndOfStream
        if self._next is None:
            self._next = next(self._deliveries, None)
        if self._next is None:
            self.close()
            raise EndOfStream
        if not self._wait(self._next.due_s, timeout_s):
            return None
        what, self._next = self._next.what, None
        if isinstance(what, SourceLost):
            raise what
        if self._shift_s == 0.0 or not what.stamps:
            return what
        return replace(what, stamps=tuple((i, t + self._shift_s) for i, t in what.stamps))

    def _wait(self, due_s: float, timeout_s: float) -> bool:
        if self._speed is None:
            return True
        due_at_s = self._start_s + due_s / self._speed
        give_up_s = self._clock.now() + timeout_s
        return self._clock.wait_until(min(due_at_s, give_up_s), self._closed) and (
            due_at_s <= give_up_s
        )
