"""The WebSocket port of a browser source: one page at a time, and what it sent waits here."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from engine.access import Access, door_log
from engine.errors import DataError, ResourceError
from sources.browser.parcel import LIMITS, Parcel, greeted, picture, sound

__all__ = ["Door", "Visit"]

_ROOM_BYTES = 16 << 20  # of what nobody reads; the oldest parcels go, their indices tell it
_AWAY, _TAKEN, _FOREIGN = 1001, 4003, 4004
_GREETING_S = 5.0


class Visit:
    """One page's stay: the rate it announced, and its parcels that nobody took yet."""

    def __init__(self, rate_hz: float | None) -> None:
        self.rate_hz = rate_hz
        self.over = False
        self._parcels: deque[Parcel] = deque()
        self._n_bytes = 0

    def put(self, parcel: Parcel) -> None:
        """One more parcel; where there is no room for it the oldest go."""
        self._parcels.append(parcel)
        self._n_bytes += parcel.n_bytes
        while self._n_bytes > _ROOM_BYTES:
            self._n_bytes -= self._parcels.popleft().n_bytes

    def take(self) -> list[Parcel]:
        """What came since the last call, up to where something is missing."""
        taken: list[Parcel] = []
        while self._parcels:
            parcel = self._parcels[0]
            if taken and parcel.index > taken[-1].index + len(taken[-1].items):
                break
            taken.append(self._parcels.popleft())
            self._n_bytes -= parcel.n_bytes
        return taken

    def __bool__(self) -> bool:
        return bool(self._parcels)


class Door:
    """Listens on 127.0.0.1:`port` in threads of its own until it is closed.

    A page needs the token and an Origin of the list; it greets with JSON and then sends bytes. A
    second page is sent away while one is there, and so is one that sends what does not fit.
    """

    def __init__(
        self, kind: str, port: int, token: str, origins: Sequence[str], now: Callable[[], float]
    ) -> None:
        from websockets.sync.server import serve

        self._kind, self._token, self._origins, self._now = kind, token, origins, now
        self.changed = threading.Condition()
        self.visit: Visit | None = None  # the present one, or the last
        self.n_refused = 0
        self._connections: set[Any] = set()
        try:
            self._server = serve(
                self._talk, "127.0.0.1", port, process_request=self._check,
                max_size=LIMITS[kind], compression=None, logger=door_log(),
            )  # fmt: skip
        except OSError as error:
            raise ResourceError(
                f"browser: port {port} cannot be bound: {error.strerror}; choose another"
            ) from error
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name=f"browser-{kind}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Send the page away and free the port."""
        for connection in list(self._connections):
            connection.close(_AWAY)
        self._server.shutdown()
        self._thread.join()
        with self.changed:
            visit, self.visit = self.visit, None
            if visit is not None:
                visit.over = True
            self.changed.notify_all()

    def dismiss(self, visit: Visit) -> None:
        """The stay is over for us: its page will notice, and may come back."""
        with self.changed:
            visit.over = True

    def _check(self, connection: Any, request: Any) -> Any:
        named = {
            name: ", ".join(values)
            for name in ("Host", "Origin", "Authorization")
            if (values := request.headers.get_all(name))
        }
        refused = Access(self.port, self._token, self._origins).refusal(request.path, named)
        if refused is None and "Origin" not in named:
            refused = "origin"  # a browser always names it
        if refused is None:
            return None
        self.n_refused += 1
        return connection.respond(401 if refused == "token" else 403, f"refused: {refused}\n")

    def _talk(self, connection: Any) -> None:
        self._connections.add(connection)
        try:
            self._receive(connection)
        finally:
            self._connections.discard(connection)

    def _receive(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            visit = self._enter(greeted(self._kind, connection.recv(timeout=_GREETING_S)))
        except (DataError, TimeoutError) as error:
            connection.close(_FOREIGN, str(error)[:100])
            return
        except ConnectionClosed:
            return
        if visit is None:
            connection.close(_TAKEN, "somebody is here already")
            return
        try:
            self._hear(connection, visit)
        except DataError as error:
            self.n_refused += 1
            connection.close(_FOREIGN, str(error)[:100])
        except ConnectionClosed:
            pass
        finally:
            with self.changed:
                visit.over = True
                self.changed.notify_all()

    def _enter(self, rate_hz: float | None) -> Visit | None:
        with self.changed:
            if self.visit is not None and not self.visit.over:
                return None
            self.visit = Visit(rate_hz)
            return self.visit

    def _hear(self, connection: Any, visit: Visit) -> None:
        read = sound if self._kind == "voice" else picture
        for told in connection:
            parcel = read(told, self._now())
            with self.changed:
                if visit.over:
                    return
                visit.put(parcel)
                self.changed.notify_all()
