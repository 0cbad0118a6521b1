"""The prediction socket: messages out to whoever listens, again to who joins late or fell behind.

Protocol: wire.md's XPUB socket over ZMTP 3.1 (ZeroMQ RFC 37).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import zmq

from engine import endpoint, wire
from engine.clock import Clock, MonotonicClock
from engine.keys import EngineKeys, Rejections
from engine.types import Message, Schema

__all__ = ["Publisher"]

MAX_REPEATS = 5  # per session in PERIOD_S
PERIOD_S = 1.0
REPEATED = ("schema", "prediction")  # in this order

_LINGER_MS = 200
_MAX_INCOMING = 4096  # bytes; whoever sends more than a subscription is cut off
_MAX_TURN = 1000  # subscriptions handled before the loop gets its turn again
_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


class Publisher:
    """An XPUB socket bound at `url` that keeps the last messages of every session.

    A subscriber that falls behind by `high_water` messages loses the next ones; it never slows
    `send`. Of each session and kind the last `retain` messages are kept for `fetch`, in at most
    `retain_bytes`. `socket` is for a poller; call `serve` when it is readable, and in every turn
    of the loop. With `keys` only clients on their list may connect; `rejected` {"key", "plain"}
    counts the others. `sent`, `repeated`, `received_subscriptions` and `ignored` count messages.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        url: str,
        *,
        clock: Clock | None = None,
        keys: EngineKeys | None = None,
        retain: int = 4096,
        retain_bytes: int = 8 << 20,
        high_water: int = 10_000,
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._retain, self._retain_bytes = retain, retain_bytes
        self._shelves: dict[str, dict[str, _Shelf]] = {}  # session: kind: what was sent
        self._wanted: dict[str, set[str]] = {}  # session: kinds to repeat
        self._repeats: dict[str, deque[float]] = {}  # session: when, the last few
        self.sent = self.repeated = self.received_subscriptions = self.ignored = 0
        self.socket = context.socket(zmq.XPUB)
        self.socket.xpub_verbose = 1  # equal subscriptions are told too
        self.socket.linger = _LINGER_MS
        self.socket.sndhwm = high_water
        self.socket.maxmsgsize = _MAX_INCOMING
        self._rejections = None
        if keys is not None:
            keys.guard(self.socket)
            self._rejections = Rejections(self.socket)
        try:
            self.url = endpoint.bind(self.socket, url, "publish", guarded=keys is not None)
        except BaseException:
            self.socket.close(0)
            raise

    def send(self, message: Message) -> bytes:
        """Send a message to whoever listens, and keep it; returns the body. Never blocks."""
        body = wire.encode(message)
        kinds = self._shelves.setdefault(message.session, {})
        shelf = kinds.get(message.kind)
        if shelf is None:
            topic = wire.topic(message.session, message.kind)
            shelf = kinds[message.kind] = _Shelf(topic, self._retain, self._retain_bytes)
        self.socket.send_multipart((shelf.topic, body), zmq.NOBLOCK)
        shelf.put(0 if isinstance(message, Schema) else message.seq, body)
        self.sent += 1
        return body

    def pass_on(self, session: str, kind: str, body: bytes) -> None:
        """Send a body that is neither counted nor kept for `fetch`. Never blocks."""
        self.socket.send_multipart((wire.topic(session, kind), body), zmq.NOBLOCK)

    def serve(self) -> None:
        """Read new subscriptions; send their sessions' schema and last prediction once more.

        What is over the limit of repeats follows in a later call, once for all who wait.
        """
        if self._rejections is not None:
            self._rejections.poll()
        for selection in self._subscriptions():
            self._want(selection)
        for session in list(self._wanted):
            self._repeat(session)

    def fetch(
        self, session: str, kind: str, first: int, last: int
    ) -> tuple[list[bytes], list[list[int]]]:
        """The kept bodies with `first` <= seq <= `last`, oldest first, and what is lost of them:
        [[first, last], ...]. Numbers that were not sent yet are in neither."""
        shelf = self._shelves.get(session, {}).get(kind)
        return ([], []) if shelf is None else shelf.range(first, last)

    def forget(self, session: str) -> None:
        """Drop what is kept of a session that is over."""
        for kept in (self._shelves, self._wanted, self._repeats):
            kept.pop(session, None)

    def close(self) -> None:
        """Close the socket; what is on its way gets a moment to leave."""
        if self._rejections is not None:
            self._rejections.close()
        self.socket.close()

    @property
    def rejected(self) -> dict[str, int]:
        """Handshakes refused so far: of a wrong key, and of clients without one."""
        return {} if self._rejections is None else dict(self._rejections.counts)

    def _subscriptions(self) -> set[bytes]:
        """What was subscribed to since the last call; equal ones count, and are told once."""
        selections = set()
        for _ in range(_MAX_TURN):
            try:
                told = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            if told[:1] == _SUBSCRIBE:
                self.received_subscriptions += 1
                selections.add(told[1:])
            elif told[:1] != _UNSUBSCRIBE:
                self.ignored += 1
        return selections

    def _want(self, selection: bytes) -> None:
        """Remember what a subscription to `selection` asks to be repeated."""
        for session, kinds in self._shelves.items():
            for kind in REPEATED:
                if kind in kinds and kinds[kind].topic.startswith(selection):
                    self._wanted.setdefault(session, set()).add(kind)

    def _repeat(self, session: str) -> None:
        now_s = self._clock.now()
        past = self._repeats.setdefault(session, deque())
        while past and now_s - past[0] >= PERIOD_S:
            past.popleft()
        if len(past) >= MAX_REPEATS:
            return
        past.append(now_s)
        kinds = self._wanted.pop(session)
        for kind in REPEATED:
            if kind in kinds:
                shelf = self._shelves[session][kind]
                self.socket.send_multipart((shelf.topic, shelf.newest), zmq.NOBLOCK)
                self.repeated += 1


class _Shelf:
    """The last bodies under one topic with their numbers, bounded in count and bytes.

    The newest is always kept.
    """

    def __init__(self, topic: bytes, room: int, room_bytes: int) -> None:
        self.topic = topic
        self._room, self._room_bytes = room, room_bytes
        self._kept: deque[tuple[int, bytes]] = deque()
        self._n_bytes = 0

    @property
    def newest(self) -> bytes:
        """The body that was put last."""
        return self._kept[-1][1]

    def put(self, seq: int, body: bytes) -> None:
        """Keep one more; a number that is not larger than the last starts over."""
        if self._kept and seq <= self._kept[-1][0]:
            self._kept.clear()
            self._n_bytes = 0
        self._kept.append((seq, body))
        self._n_bytes += len(body)
        while len(self._kept) > 1 and (
            len(self._kept) > self._room or self._n_bytes > self._room_bytes
        ):
            self._n_bytes -= len(self._kept.popleft()[1])

    def range(self, first: int, last: int) -> tuple[list[bytes], list[list[int]]]:
        """The bodies numbered `first` to `last`, and the runs of numbers that are not here."""
        last = min(last, self._kept[-1][0])
        chosen = [(seq, body) for seq, body in self._kept if first <= seq <= last]
        return [body for _, body in chosen], list(_gaps((seq for seq, _ in chosen), first, last))


def _gaps(numbers: Iterable[int], first: int, last: int) -> Iterator[list[int]]:
    """The runs of [first, last] that ascending `numbers` leave out."""
    following = first
    for number in numbers:
        if number > following:
            yield [following, number - 1]
        following = number + 1
    if following <= last:
        yield [following, last]
