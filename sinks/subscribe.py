"""The client: messages of a running engine as an iterator, with what was missed by number."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zmq
import zmq.asyncio

from engine import endpoint, wire
from engine.errors import ResourceError
from engine.keys import ClientKeys
from engine.types import Message
from sinks.inflow import Hole, Inflow, checked_kinds, fetch

__all__ = [
    "CONTROL_URL",
    "DEFAULT_URL",
    "AsyncSubscription",
    "Hole",
    "Subscription",
    "subscribe",
    "subscribe_async",
]

DEFAULT_URL = "tcp://127.0.0.1:5570"
CONTROL_URL = "tcp://127.0.0.1:5571"  # for `fetch_from`
_HIGH_WATER = 10_000


class Subscription:
    """Messages of the engine that publishes at `url`, in the order in which they were sent.

    An iterator and a context manager. With `session` only of that one, with `kinds` only of
    these. Who joins late has the schema and the last prediction at once; what the engine repeats
    for others who join is left out.

    Messages lost on the way (a reader slower than `high_water` messages) are holes. With
    `fetch_from`, the address of the engine's control socket, they are fetched from there and come
    in their places, counted in `n_fetched`; `fetch_failure` is why the last attempt failed.
    Those that the engine does not keep any more, or all without `fetch_from`, stand in `holes`,
    are counted in `n_lost`, and `on_hole(hole)` is called.

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
        fetch_from: str | None = None,
        high_water: int = _HIGH_WATER,
        keys: ClientKeys | None = None,
    ) -> None:
        self._closed = True  # until there is something to close
        self.url, self.session, self.kinds = url, session, checked_kinds(kinds)
        self._inflow = Inflow(url, self.kinds, on_hole)
        self._timeout_s = timeout_s
        self._fetch = None if fetch_from is None else partial(fetch, fetch_from, keys=keys)
        self._owns = context is None
        self._context = zmq.Context() if context is None else context
        self._socket = self._context.socket(zmq.SUB)
        self._closed = False
        try:
            _listen(self._socket, url, session, self.kinds, high_water, keys)
        except BaseException:
            self.close()
            raise

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
        never = not self._inflow.heard and not self._closed
        self.close()
        if never:
            raise _nothing_came(self.url, self.session, self._timeout_s)
        raise StopIteration

    @property
    def holes(self) -> list[Hole]:
        """The last messages that were missed for good."""
        return self._inflow.holes

    @property
    def n_lost(self) -> int:
        """How many messages were missed for good."""
        return self._inflow.n_lost

    @property
    def n_fetched(self) -> int:
        """How many messages were missed and fetched."""
        return self._inflow.n_fetched

    @property
    def fetch_failure(self) -> Exception | None:
        """Why the last hole could not be fetched; None if it could."""
        return self._inflow.failure

    def read(self, timeout_s: float | None) -> Message | None:
        """The next message, or None if none came within `timeout_s` (None: wait for ever).

        Raises WireError for bytes that no engine sends.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        wait_ms = None
        while not self._inflow.ready:
            if end_s is not None:
                wait_ms = math.ceil(1e3 * max(0.0, end_s - time.monotonic()))
            if not self._socket.poll(wait_ms):
                return None
            found = self._inflow.take(self._socket.recv_multipart())
            if found is None:
                continue
            if self._fetch is None:
                self._inflow.lose(found[0])
            else:
                self._inflow.fill(self._fetch(*found))
        return self._inflow.ready.popleft()

    def close(self) -> None:
        """Stop listening; the iterator ends."""
        if self._closed:
            return
        self._closed = True
        self._socket.close(0)
        if self._owns:
            self._context.term()


class AsyncSubscription:
    """What Subscription is, for `async for` and `async with`; the arguments are the same.

    While a hole is fetched other tasks go on. One task reads.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        session: str | None = None,
        kinds: Sequence[str] = wire.KINDS,
        timeout_s: float | None = None,
        *,
        on_hole: Callable[[Hole], None] | None = None,
        fetch_from: str | None = None,
        high_water: int = _HIGH_WATER,
        keys: ClientKeys | None = None,
    ) -> None:
        self._closed = True
        self.url, self.session, self.kinds = url, session, checked_kinds(kinds)
        self._inflow = Inflow(url, self.kinds, on_hole)
        self._timeout_s = timeout_s
        self._fetch = None if fetch_from is None else partial(fetch, fetch_from, keys=keys)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._closed = False
        try:
            _listen(self._socket, url, session, self.kinds, high_water, keys)
        except BaseException:
            self.close()
            raise

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> Message:
        try:
            message = None if self._closed else await self.read(self._timeout_s)
        except BaseException:  # a task that is cancelled too
            self.close()
            raise
        if message is not None:
            return message
        never = not self._inflow.heard and not self._closed
        self.close()
        if never:
            raise _nothing_came(self.url, self.session, self._timeout_s)
        raise StopAsyncIteration

    @property
    def holes(self) -> list[Hole]:
        """The last messages that were missed for good."""
        return self._inflow.holes

    @property
    def n_lost(self) -> int:
        """How many messages were missed for good."""
        return self._inflow.n_lost

    @property
    def n_fetched(self) -> int:
        """How many messages were missed and fetched."""
        return self._inflow.n_fetched

    @property
    def fetch_failure(self) -> Exception | None:
        """Why the last hole could not be fetched; None if it could."""
        return self._inflow.failure

    async def read(self, timeout_s: float | None) -> Message | None:
        """The next message, or None if none came within `timeout_s` (None: wait for ever).

        Raises WireError for bytes that no engine sends.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        wait_ms = None
        while not self._inflow.ready:
            if end_s is not None:
                wait_ms = math.ceil(1e3 * max(0.0, end_s - time.monotonic()))
            if not await self._socket.poll(wait_ms):
                return None
            found = self._inflow.take(await self._socket.recv_multipart())
            if found is None:
                continue
            if self._fetch is None:
                self._inflow.lose(found[0])
                continue
            try:
                self._inflow.fill(await asyncio.to_thread(self._fetch, *found))
            except asyncio.CancelledError:
                self._inflow.lose(found[0])
                raise
        return self._inflow.ready.popleft()

    def close(self) -> None:
        """Stop listening; the iterator ends."""
        if self._closed:
            return
        self._closed = True
        self._socket.close(0)
        self._context.term()


def subscribe(
    url: str = DEFAULT_URL,
    session: str | None = None,
    kinds: Sequence[str] = wire.KINDS,
    timeout_s: float | None = None,
    context: zmq.Context[Any] | None = None,
    *,
    on_hole: Callable[[Hole], None] | None = None,
    fetch_from: str | None = None,
    keys: ClientKeys | None = None,
) -> Subscription:
    """Listen to a running engine: `for message in subscribe(): print(message.label)`.

    All that there is to know about it stands at Subscription.
    """
    return Subscription(
        url, session, kinds, timeout_s, context, on_hole=on_hole, fetch_from=fetch_from, keys=keys
    )


def subscribe_async(
    url: str = DEFAULT_URL,
    session: str | None = None,
    kinds: Sequence[str] = wire.KINDS,
    timeout_s: float | None = None,
    *,
    on_hole: Callable[[Hole], None] | None = None,
    fetch_from: str | None = None,
    keys: ClientKeys | None = None,
) -> AsyncSubscription:
    """Listen to a running engine: `async for message in subscribe_async(): print(message.label)`.

    All that there is to know about it stands at Subscription.
    """
    return AsyncSubscription(
        url, session, kinds, timeout_s, on_hole=on_hole, fetch_from=fetch_from, keys=keys
    )


def _listen(
    socket: zmq.Socket[Any],
    url: str,
    session: str | None,
    kinds: Sequence[str],
    high_water: int,
    keys: ClientKeys | None,
) -> None:
    """Connect a SUB socket and say what it is to hear."""
    socket.rcvhwm = high_water
    socket.maxmsgsize = wire.MAX_MESSAGE
    if keys is not None:
        keys.use(socket)
    endpoint.connect(socket, url, "subscribe")
    if session is None:
        socket.subscribe(wire.prefix())
        return
    for kind in kinds:
        socket.subscribe(wire.topic(session, kind))


def _nothing_came(url: str, session: str | None, timeout_s: float | None) -> ResourceError:
    of = "" if session is None else f" of session '{session}'"
    return ResourceError(
        f"no message{of} came from {url} within {timeout_s:g} s; start an "
        "engine there (vagus run CONFIG) or give the publish address of one that runs"
    )
