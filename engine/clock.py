"""The engine's clock: one monotonic time, and a settable one for tests and fast replay."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "MonotonicClock", "SettableClock"]


class Clock(Protocol):
    """Seconds that only go forward; where they start means nothing."""

    def now(self) -> float: ...
    def wait_until(self, t_s: float, stop: threading.Event) -> bool:
        """Block until `now() >= t_s` (True) or `stop` is set (False)."""
        ...


class MonotonicClock:
    """The clock of a live engine."""

    def now(self) -> float:
        return time.monotonic()

    def wait_until(self, t_s: float, stop: threading.Event) -> bool:
        while (left_s := t_s - time.monotonic()) > 0:
            if stop.wait(left_s):
                return False
        return not stop.is_set()


class SettableClock:
    """A clock that stands still until somebody sets it; waiting on it moves it forward at once."""

    def __init__(self, t_s: float = 0.0) -> None:
        self._t_s = t_s

    def now(self) -> float:
        return self._t_s

    def set(self, t_s: float) -> None:
        """Move to `t_s`; a clock never goes back."""
        self._t_s = max(self._t_s, t_s)

    def wait_until(self, t_s: float, stop: threading.Event) -> bool:
        self.set(t_s)
        return not stop.is_set()
