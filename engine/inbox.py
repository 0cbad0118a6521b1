"""The hand-over between device threads and the loop: bounded, ordered, counted."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from engine.account import Account, Stage
from engine.types import Chunk

__all__ = ["Inbox", "Item"]


@dataclass(frozen=True, slots=True)
class Item:
    """What a device thread hands over: a chunk, or word of the source (`verb` and arguments)."""

    session: str
    stream: str
    arrived_s: float
    chunk: Chunk | None = None
    verb: str = ""
    args: dict[str, Any] | None = None


class _Port:
    """One stream's share of the inbox."""

    def __init__(self, limit: int, block: bool) -> None:
        self.limit, self.block = limit, block
        self.n_items = 0
        self.stage = Stage(lambda: 0)


class Inbox:
    """One queue for all streams of the engine; the loop takes items in the order they came.

    Each stream is bounded in items: under `block` its thread waits for room, otherwise its
    oldest chunks are dropped (`overrun`) and the core sees a gap. `fileno` becomes readable when
    something is there, so a poller can wait on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._items: deque[Item] = deque()
        self._ports: dict[tuple[str, str], _Port] = {}
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waking = threading.RLock()
        self._awake = False
        self._closed = False

    def fileno(self) -> int:
        """A file descriptor to poll for reading."""
        return self._wake_r

    def open(self, session: str, stream: str, account: Account, limit: int, block: bool) -> Stage:
        """Let a stream in, with room for `limit` items; returns its stage `inbox`."""
        key = (session, stream)
        port = self._ports[key] = _Port(limit, block)
        port.stage = account.stage(stream, "inbox", lambda: self._held(key))
        return port.stage

    def frozen(self) -> threading.Lock:
        """A lock to hold while the account is read, so that no thread counts meanwhile."""
        return self._lock

    def close(self, session: str) -> None:
        """Drop what is left of a session, counted as shutdown, and let nothing more in."""
        with self._lock:
            gone = [i for i in self._items if i.session == session]
            self._items = deque(i for i in self._items if i.session != session)
            for item in gone:
                if item.chunk is not None:
                    port = self._ports[item.session, item.stream]
                    port.n_items -= len(item.chunk)
                    port.stage.drop("shutdown", len(item.chunk))
            self._ports = {k: p for k, p in self._ports.items() if k[0] != session}
            self._room.notify_all()

    def shut(self) -> None:
        """Release every waiting thread and the file descriptors."""
        with self._lock, self._waking:
            self._closed = True
            self._room.notify_all()
            os.close(self._wake_w)
            os.close(self._wake_r)

    def put(self, item: Item) -> bool:
        """Called by a device's thread; False if the stream was closed meanwhile."""
        with self._lock:
            port = self._ports.get((item.session, item.stream))
            if item.chunk is not None and port is not None:
                if not self._make_room(item, port):
                    return False
                n = len(item.chunk)
                port.stage.n_in += n
                port.n_items += n
            elif port is None:
                return False
            if self._closed:
                return False
            self._items.append(item)
            if not self._awake:
                self._awake = True
                self.wake()
        return True

    def wake(self) -> None:
        """Make `fileno` readable; a signal handler may call it, whatever it interrupts."""
        with self._waking:  # else the number may be another file's by now
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_w, b"!")

    def take(self) -> list[Item]:
        """All that is there, in order; called by the loop."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_r, 64)
            self._awake = False
            items = list(self._items)
            self._items.clear()
            for item in items:
                if item.chunk is not None:
                    port = self._ports[item.session, item.stream]
                    port.n_items -= len(item.chunk)
                    port.stage.n_out += len(item.chunk)
            self._room.notify_all()
        return items

    def _make_room(self, item: Item, port: _Port) -> bool:
        assert item.chunk is not None
        n = len(item.chunk)
        key = (item.session, item.stream)
        while port.n_items and port.n_items + n > port.limit:
            if port.block:
                self._room.wait()
                if self._closed or key not in self._ports:
                    return False
                continue
            oldest = next(
                i for i in self._items if i.chunk is not None and (i.session, i.stream) == key
            )
            assert oldest.chunk is not None
            self._items.remove(oldest)
            port.n_items -= len(oldest.chunk)
            port.stage.drop("overrun", len(oldest.chunk))
        return True

    def _held(self, key: tuple[str, str]) -> int:
        return sum(
            len(i.chunk)
            for i in self._items
            if i.chunk is not None and (i.session, i.stream) == key
        )
