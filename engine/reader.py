"""One thread per device: blocked in `read`, it hands over what comes and what happens."""

from __future__ import annotations

import threading
from typing import Any

from engine.clock import Clock
from engine.errors import EndOfStream, SourceLost
from engine.inbox import Inbox, Item
from engine.types import Chunk, Source

__all__ = ["Reader"]

_READ_S = 0.5


class Reader(threading.Thread):
    """Reads one source until it ends or is stopped; every outcome reaches the loop as an item.

    `connect` (with the StreamInfo) comes before the first chunk and after each loss, `lost` and
    `end` when the source says so, `crash` with the exception when it breaks.
    """

    def __init__(
        self, session: str, stream: str, source: Source, inbox: Inbox, clock: Clock
    ) -> None:
        super().__init__(name=f"{session}/{stream}", daemon=True)
        self._session, self._stream = session, stream
        self._source, self._inbox, self._clock = source, inbox, clock
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Ask the thread to finish; it does within one read."""
        self._stop_asked.set()

    def run(self) -> None:
        try:
            with self._source as source:
                self._say("connect", info=source.info)
                self._read(source)
        except EndOfStream:
            self._say("end")
        except Exception as error:  # whatever it is, the loop hears of it and says so
            self._say("crash", error=error)

    def _read(self, source: Source) -> None:
        lost = False
        while not self._stop_asked.is_set():
            try:
                chunk = source.read(_READ_S)
            except SourceLost as error:
                if not lost:
                    self._say("lost", why=str(error))
                lost = True
                continue
            if chunk is None:
                continue
            if lost:
                self._say("connect", info=source.info)
                lost = False
            if not self._put(chunk=chunk):
                return

    def _say(self, verb: str, **args: Any) -> None:
        self._put(verb=verb, args=args)

    def _put(
        self, chunk: Chunk | None = None, verb: str = "", args: dict[str, Any] | None = None
    ) -> bool:
        now_s = self._clock.now()
        return self._inbox.put(Item(self._session, self._stream, now_s, chunk, verb, args))
