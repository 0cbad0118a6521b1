"""A sink inside the engine's process: its own thread, a bounded queue, never in the loop's way."""

from __future__ import annotations

import queue
import sys
import threading

from engine.errors import VagusError
from engine.types import Message, Sink

__all__ = ["Outlet"]

_ROOM = 10_000


class Outlet(threading.Thread):
    """Writes messages to one sink; what it is too slow for is dropped and counted in `n_lost`."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(name=type(sink).__name__, daemon=True)
        self._sink = sink
        self._queue: queue.Queue[Message | None] = queue.Queue(_ROOM)
        self.n_lost = 0
        self.failed: str | None = None

    def put(self, message: Message) -> None:
        """Hand a message over; never blocks."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.n_lost += 1

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is waiting, then close the sink."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self.join(timeout_s)

    def run(self) -> None:
        try:
            while (message := self._queue.get()) is not None:
                self._sink.write(message)
            self._sink.close()
        except VagusError as error:
            self.failed = str(error)
            print(f"sink {self.name} stopped: {error}", file=sys.stderr)
