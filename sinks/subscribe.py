"""The client: messages of a running engine as an iterator, with what was missed by number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import zmq

from engine import endpoint, wire
from engine.errors import ConfigError, ResourceError
from engine.keys import ClientKeys
from engine.plugins import nearest
from engine.types import Message, Schema

__all__ = ["DEFAULT_URL", "Hole", "Subscription", "subscribe"]

DEFAULT_URL = "tcp://127.0.0.1:5570"
MAX_HOLES = 1000  # kept in a list; the older ones are counted only


class Hole(NamedTuple):
    """Messages that never came: the numbers `first` to `last`, inclusive."""

    session: str
    kind: str
    first: int
    last: int


class Subscription:
    """Messages of the engine that publishes at `url`, in the order in which they were sent.

    An iterator and a context manager. With `session` only of that one, with `kinds` only of
    these. What the engine repeats for others who join is left out. Messages lost on the way (a
    reader slower than `high_water` messages) are holes: they stand in `holes`, are counted in
    `n_lost`, and `on_hole(hole)` is called; the control socket's `fetch` may still have them.

    The iterator ends when nothing came for `timeout_s`; it raises ResourceError if nothing ever
    came. Without `timeout_s` it waits for ever, also for an engine that is not there yet. `keys`
    are for an engine that demands CURVE.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        session: str | None = None,
        kinds: Sequence[str] = wire.KINDS,
        timeout_s: float | None = None,
        context: zmq.Context[Any] | None = None,
        *,
        on_hole: Callable[[Hole], None] | None = None,
        high_water: int = 10_000,
        keys: ClientKeys | None = None,
    ) -> None:
        self._closed = True  # until there is something to close
        self.url, self.session, self.kinds = url, session, _check(kinds)
        self.holes: list[Hole] = []
        self.n_lost = 0
        self._timeout_s, self._on_hole = timeout_s, on_hole
        self._last: dict[tuple[str, str], tuple[str, int]] = {}  # (session, kind): run, seq
        self._schemas: dict[str, bytes] = {}
        self._heard = False
        self._owns = context is None
        self._context = zmq.Context() if context is None else context
        self._socket = self._context.socket(zmq.SUB)
        self._closed = False
        if keys is not None:
            keys.use(self._socket)
        self._open(high_water)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Message:
        try:
            message = None if self._closed else self.read(self._timeout_s)
        except BaseException:  # Ctrl-C too
            self.close()
            raise
        if message is not None:
            return message
        never = not self._heard and not self._closed
        self.close()
        if never:
            of = "" if self.session is None else f" of session '{self.session}'"
            raise ResourceError(
                f"no message{of} came from {self.url} within {self._timeout_s:g} s; start an "
                "engine there (vagus run CONFIG) or give the publish address of one that runs"
            )
        raise StopIteration

    def read(self, timeout_s: float | None) -> Message | None:
        """The next message, or None if none came within `timeout_s` (None: wait for ever).

        Raises WireError for bytes that no engine sends.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        wait_ms = None
        while True:
            if end_s is not None:
                wait_ms = math.ceil(1e3 * max(0.0, end_s - time.monotonic()))
            if not self._socket.poll(wait_ms):
                return None
            message = self._take(self._socket.recv_multipart())
            self._heard = True
            if message is not None:
                return message

    def close(self) -> None:
        """Stop listening; the iterator ends."""
        if self._closed:
            return
        self._closed = True
        self._socket.close(0)
        if self._owns:
            self._context.term()

    def _open(self, high_water: int) -> None:
        try:
            self._socket.rcvhwm = high_water
            self._socket.maxmsgsize = wire.MAX_MESSAGE
            endpoint.connect(self._socket, self.url, "subscribe")
        except BaseException:
            self.close()
            raise
        if self.session is None:
            self._socket.subscribe(wire.prefix())
            return
        for kind in self.kinds:
            self._socket.subscribe(wire.topic(self.session, kind))

    def _take(self, parts: list[bytes]) -> Message | None:
        """The message in these frames; None for a repeat, and for what was not asked for."""
        words = parts[0].split(b"/")
        if len(parts) != 2 or len(words) != 4:
            raise wire.WireError(f"{self.url} sent {len(parts)} frames that are no message")
        kind = words[3].decode(errors="replace")
        if kind not in self.kinds:
            return None
        message = wire.decode(kind, parts[1])
        if isinstance(message, Schema):
            if self._schemas.get(message.session) == parts[1]:
                return None
            self._schemas[message.session] = parts[1]
            return message
        return message if self._is_new(kind, message.run, message.session, message.seq) else None

    def _is_new(self, kind: str, run: str, session: str, seq: int) -> bool:
        """Whether this number was not seen yet; notes the ones that it leaves out."""
        known = self._last.get((session, kind))
        if known is not None:
            last = known[1] if known[0] == run else -1  # another run counts from 0
            if seq <= last:
                return False
            if seq > last + 1:
                self._note(Hole(session, kind, last + 1, seq - 1))
        self._last[session, kind] = run, seq
        return True

    def _note(self, hole: Hole) -> None:
        self.n_lost += hole.last - hole.first + 1
        self.holes.append(hole)
        del self.holes[:-MAX_HOLES]
        if self._on_hole is not None:
            self._on_hole(hole)


def subscribe(
    url: str = DEFAULT_URL,
    session: str | None = None,
    kinds: Sequence[str] = wire.KINDS,
    timeout_s: float | None = None,
    context: zmq.Context[Any] | None = None,
    *,
    on_hole: Callable[[Hole], None] | None = None,
    keys: ClientKeys | None = None,
) -> Subscription:
    """Listen to a running engine: `for message in subscribe(): print(message.label)`.

    All that there is to know about it stands at Subscription.
    """
    return Subscription(url, session, kinds, timeout_s, context, on_hole=on_hole, keys=keys)


def _check(kinds: Sequence[str]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in wire.KINDS:
            hint = nearest(kind, wire.KINDS) or f"; known: {', '.join(wire.KINDS)}"
            raise ConfigError(f"no message is of kind {kind!r}{hint}")
    return tuple(kinds)
