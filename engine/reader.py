"""One thread per device: blocked in `read`, it hands over what comes and what happens."""

from __future__ import annotations

import math
import threading
from typing import Any

from engine.clock import Clock
from engine.errors import EndOfStream, SourceLost
from engine.inbox import Inbox, Item
from engine.types import Chunk, Source

__all__ = ["Reader"]

_READ_S = 0.5
_SET_S = 1.0
_JITTER_S = 0.6  # chunks of a bad line come this late, and still as soon as they can
_AGAIN_S = 0.5  # before a device that was not there is looked for again


class Reader(threading.Thread):
    """Reads one source until it ends or is stopped; every outcome reaches the loop as an item.

    `connect` (with the StreamInfo) comes before the first chunk and after each loss, `lost` and
    `end` when the source says so, `crash` with the exception when it breaks. A device that is
    not there yet is lost from the start, and entered again until it is.

    With `live`, when a chunk arrived is told by its stamps: later than they say, by more than the
    device ever needed, it was waiting for us and not on its way.
    """

    def __init__(
        self,
        session: str,
        stream: str,
        source: Source,
        inbox: Inbox,
        clock: Clock,
        live: bool = False,
    ) -> None:
        super().__init__(name=f"{session}/{stream}", daemon=True)
        self._session, self._stream = session, stream
        self._source, self._inbox, self._clock = source, inbox, clock
        self._stop_asked = threading.Event()
        self._live = live
        self._way_s = math.inf  # the least time from a stamp to its arrival
        self._before = (-math.inf, 0.0)  # when the last chunk came, and its way
        self._lost = False

    def stop(self) -> None:
        """Ask the thread to finish; it does within one read."""
        self._stop_asked.set()

    def run(self) -> None:
        try:
            source = self._enter()
            try:
                if source is not None:
                    self._say("connect", info=source.info)
                    self._read(source)
            finally:  # also of one that never came: it may have been listening for it
                self._source.__exit__(None, None, None)
        except EndOfStream:
            self._say("end")
        except Exception as error:  # whatever it is, the loop hears of it and says so
            self._say("crash", error=error)

    def _enter(self) -> Source | None:
        """The entered source, once its device is there; None if stopped meanwhile."""
        while not self._stop_asked.is_set():
            try:
                return self._source.__enter__()
            except SourceLost as error:
                self._tell_lost(error)
                self._stop_asked.wait(_AGAIN_S)
        return None

    def _read(self, source: Source) -> None:
        self._lost = False
        while not self._stop_asked.is_set():
            try:
                chunk = source.read(_READ_S)
            except SourceLost as error:
                self._tell_lost(error)
                continue
            if chunk is None:
                continue
            if self._lost:
                self._say("connect", info=source.info)
                self._lost = False
            if not self._put(chunk=chunk):
                return

    def _tell_lost(self, error: SourceLost) -> None:
        if not self._lost:
            self._say("lost", why=str(error))
        self._lost = True

    def _arrived_s(self, chunk: Chunk | None, rate_hz: float | None) -> float:
        """When a chunk arrived: now, unless its stamps say that it had waited for us."""
        now_s = self._clock.now()
        if not self._live or chunk is None or not chunk.stamps:
            return now_s
        index, stamp_s = chunk.stamps[-1]
        after = chunk.first_index + len(chunk) - 1 - index
        way_s = now_s - stamp_s - (after / rate_hz if rate_hz else 0.0)
        was_s, self._before = self._before, (now_s, way_s)
        if abs(way_s - was_s[1]) > now_s - was_s[0] + _SET_S:
            self._way_s = way_s  # no time passed that would explain it: the device's clock was set
        self._way_s = min(self._way_s, way_s)
        waited_s = way_s - self._way_s
        return now_s - waited_s if waited_s > _JITTER_S else now_s

    def _say(self, verb: str, **args: Any) -> None:
        self._put(verb=verb, args=args)

    def _put(
        self, chunk: Chunk | None = None, verb: str = "", args: dict[str, Any] | None = None
    ) -> bool:
        rate_hz = self._source.info.rate_hz if chunk is not None else None
        arrived_s = self._arrived_s(chunk, rate_hz)
        return self._inbox.put(Item(self._session, self._stream, arrived_s, chunk, verb, args))
