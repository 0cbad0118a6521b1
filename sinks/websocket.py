"""Predictions over a WebSocket, as JSON with stable codes: for web applications."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.access import Access, door_log, new_token
from engine.errors import ConfigError, ResourceError
from engine.types import Event, Message, Prediction, Schema
from engine.wire import to_json

__all__ = ["WebSocketSink"]

_MAX_CLIENTS = 64
_MAX_IN = 1024  # bytes that a client may send; nothing it says matters
_SLOW = 1 << 20  # bytes waiting for one client, from which on it is closed as too slow
_TOO_SLOW, _FULL = 4001, 4002
_JOIN_S = 2.0


class WebSocketSink:
    """Sends JSON objects to every client of `ws://127.0.0.1:PORT/?token=…`.

    `{"type": "session_created", …schema}`, `{"type": "result", …prediction}`, `{"type": "error",
    "code", …event}` for events that make predictions worse, `{"type": "event", "code", …}` for
    the others, and `{"type": "closed"}` at the end of a session. Who joins late has every
    session's `session_created` and last `result` at once. A client that does not keep up is
    closed with 4001, one too many with 4002. Loopback only; the Host and Origin must be exact, and
    without `token` given in the config one is made and printed. `port` 0 takes any free one.
    """

    def __init__(
        self, port: int = 5575, token: str | None = None, origins: Sequence[str] = ()
    ) -> None:
        if not 0 <= port <= 65535:
            raise ConfigError(f"websocket: port {port} is none; need 0 to 65535")
        Access(port, token, tuple(origins))  # says what is wrong with the origins
        self.port, self._origins = port, tuple(origins)
        self.token = token or new_token()
        self.n_refused = 0
        self._clients: set[Any] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._standing: dict[tuple[str, str], str] = {}  # what who joins late is told
        self._loop = asyncio.new_event_loop()
        self._bound = threading.Event()
        self._stop: asyncio.Event | None = None
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="websocket", daemon=True)
        self._thread.start()
        self._bound.wait()
        if self._failure is not None:
            raise ResourceError(
                f"websocket: port {port} cannot be bound: {self._failure.strerror}; choose another"
            )
        if token is None:
            print(f"websocket: ws://127.0.0.1:{self.port}/?token={self.token}", flush=True)

    def write(self, message: Message) -> None:
        """Send what a message tells to all clients."""
        told = _told(message)
        if told is None:
            return
        text = msgspec.json.encode(told).decode()
        if told["type"] in ("session_created", "result"):
            self._standing[message.session, told["type"]] = text
        elif told["type"] == "closed":
            for key in [key for key in self._standing if key[0] == message.session]:
                del self._standing[key]
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
            self._loop.call_soon_threadsafe(self._broadcast, text)

    def close(self) -> None:
        """Close every connection and free the port."""
        if self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._bound.set()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        self._stop = asyncio.Event()
        try:
            server = await serve(
                self._talk, "127.0.0.1", self.port, process_request=self._check,
                max_size=_MAX_IN, compression=None, logger=door_log(),
            )  # fmt: skip
        except OSError as error:
            self._failure = error
            return
        self.port = server.sockets[0].getsockname()[1]
        self._bound.set()
        async with server:
            await self._stop.wait()

    def _check(self, connection: Any, request: Any) -> Any:
        """A refusal in HTTP, or None for a client that may come in."""
        names = ("Host", "Origin", "Authorization")
        given = {name: request.headers.get_all(name) for name in names}
        named = {name: ", ".join(values) for name, values in given.items() if values}
        refused = Access(self.port, self.token, self._origins).refusal(request.path, named)
        if refused is None:
            return None
        self.n_refused += 1
        return connection.respond(401 if refused == "token" else 403, f"refused: {refused}\n")

    async def _talk(self, client: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        if len(self._clients) >= _MAX_CLIENTS:
            await client.close(_FULL, "too many clients")
            return
        try:
            for text in list(self._standing.values()):
                await client.send(text)
            self._clients.add(client)
            async for _ in client:  # whatever it says: this is a one-way street
                pass
        except ConnectionClosed:  # gone without a farewell
            pass
        finally:
            self._clients.discard(client)

    def _broadcast(self, text: str) -> None:
        from websockets.asyncio.server import broadcast

        for client in list(self._clients):
            if client.transport.get_write_buffer_size() > _SLOW:
                self._clients.discard(client)
                task = self._loop.create_task(client.close(_TOO_SLOW, "too slow"))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        broadcast(self._clients, text)


_ERRORS = frozenset(
    (
        "source.lost", "source.refused", "source.frozen", "source.stalled", "stream.overrun",
        "window.invalid", "bundle.refused", "recording.full", "degraded",
    )
)  # fmt: skip
_ENDS = frozenset(("session.left", "shutdown"))


def _told(message: Message) -> dict[str, Any] | None:
    """What clients hear of a message; None for what is not for them."""
    if isinstance(message, Schema):
        return {"type": "session_created", **to_json(message)}
    if isinstance(message, Prediction):
        return {"type": "result", **to_json(message)}
    if isinstance(message, Event):
        kind = "closed" if message.code in _ENDS else "event"
        return {"type": "error" if message.code in _ERRORS else kind, **to_json(message)}
    return None
