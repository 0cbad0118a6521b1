"""What the engine says, read by two threads: its messages, and the previews that were asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import zmq

from engine import endpoint, preview, wire
from engine.keys import ClientKeys
from engine.types import Message
from sinks.subscribe import Subscription

__all__ = ["MessageFeed", "PreviewFeed"]

_POLL_S = 0.2
_ROOM = 20  # previews that wait at most: the old ones are of no use


class MessageFeed(threading.Thread):
    """Hands every message of the engine at `url` to `take`, in this thread."""

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        keys: ClientKeys | None,
        take: Callable[[Message], None],
    ) -> None:
        super().__init__(name="messages", daemon=True)
        self._subscription = Subscription(url, context=context, keys=keys)
        self._take, self._over = take, threading.Event()
        self.n_foreign = 0  # what was no message

    @property
    def n_lost(self) -> int:
        """Messages that never came."""
        return self._subscription.n_lost

    def run(self) -> None:
        with self._subscription:
            while not self._over.is_set():
                try:
                    message = self._subscription.read(_POLL_S)
                except wire.WireError:
                    self.n_foreign += 1
                    continue
                if message is not None:
                    self._take(message)

    def stop(self) -> None:
        """Finish within one poll, and close the socket."""
        self._over.set()
        self.join()


class PreviewFeed(threading.Thread):
    """Hands the previews of all sessions to `take`; a slow page misses some, the engine waits for
    nobody."""

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        keys: ClientKeys | None,
        take: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(name="previews", daemon=True)
        self._socket = context.socket(zmq.SUB)
        self._socket.rcvhwm = _ROOM
        self._socket.maxmsgsize = wire.MAX_MESSAGE
        if keys is not None:
            keys.use(self._socket)
        endpoint.connect(self._socket, url, "subscribe")
        self._take, self._over = take, threading.Event()
        self._wanted: set[str] = set()
        self._heard: set[str] = set()
        self.n_foreign = 0

    def want(self, sessions: set[str]) -> None:
        """From now on the previews of these sessions, and of no others."""
        self._wanted = set(sessions)

    def run(self) -> None:
        while not self._over.is_set():
            self._subscribe(self._wanted)
            if not self._socket.poll(round(1e3 * _POLL_S)):
                continue
            parts = self._socket.recv_multipart()
            try:
                self._take(preview.decode(parts[-1]))
            except wire.WireError:
                self.n_foreign += 1
        self._socket.close(0)

    def stop(self) -> None:
        """Finish within one poll, and close the socket."""
        self._over.set()
        self.join()

    def _subscribe(self, wanted: set[str]) -> None:
        for session in wanted - self._heard:
            self._socket.subscribe(wire.topic(session, preview.KIND))
        for session in self._heard - wanted:
            self._socket.unsubscribe(wire.topic(session, preview.KIND))
        self._heard = set(wanted)
