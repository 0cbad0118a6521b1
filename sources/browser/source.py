"""A browser as a source: what a page sends of its visitor's microphone or camera."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.access import Access, new_token
from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Chunk, StreamInfo
from sources.browser.door import Door, Visit
from sources.browser.parcel import Parcel

__all__ = ["BrowserSource"]

_PORTS = {"voice": 5574, "face": 5576}  # two kinds are two ports, so that both can be shared
_PAGES = tuple(f"http://{host}:5572" for host in ("127.0.0.1", "localhost"))  # the dashboard's
_ENTER_S = 0.1  # the reader tries again soon
_SILENT_S = 2.0  # a page that sends nothing for so long is gone, or asleep
_WHAT = {"voice": "microphone", "face": "camera"}


class BrowserSource:
    """The microphone (`kind` voice) or camera (face) that a page on this machine shares.

    Listens on 127.0.0.1:`port`, by default 5574 for a voice and 5576 for a face; 0 takes any. A
    page needs `token`, made anew where none is given, and one of `origins`, by default the
    dashboard's at its usual port; `offer` is what the dashboard is told. Voices are mono at the
    rate that the page names, pictures JPEG files. Items are stamped on their arrival; what the
    page left out shows in its indices. A page that leaves, or is silent for two seconds, is a
    device that is lost; the next one opens a new segment.
    """

    info: StreamInfo

    def __init__(
        self,
        kind: str = "voice",
        port: int | None = None,
        token: str | None = None,
        origins: Sequence[str] = _PAGES,
        stream: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if kind not in _PORTS:
            raise ConfigError(f"kind: a browser gives no {kind!r}; known: {', '.join(_PORTS)}")
        if port is not None and not 0 <= port <= 65535:
            raise ConfigError(f"port: {port} is none; need 0 to 65535")
        self._port = _PORTS[kind] if port is None else port
        Access(self._port, token, tuple(origins))  # says what is wrong with the origins
        self._kind, self._token, self._origins = kind, token or new_token(), tuple(origins)
        self._clock = clock or MonotonicClock()
        self._name = stream or kind
        self._closed = threading.Event()
        self._door: Door | None = None
        self._visit: Visit | None = None
        self._segment, self._next, self._heard_s = -1, 0, 0.0

    def __enter__(self) -> BrowserSource:
        if self._door is None:
            self._door = Door(
                self._kind, self._port, self._token, self._origins, self._clock.now
            )  # fmt: skip
        if not self._begin(_ENTER_S):
            raise SourceLost(
                f"no page shares its {_WHAT[self._kind]} yet: open the dashboard and press "
                f"'Share {_WHAT[self._kind]}'"
            )
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        door, self._door = self._door, None
        if door is not None:
            door.close()

    def __del__(self) -> None:
        door = getattr(self, "_door", None)  # a source that was never entered listens all the same
        if door is not None and not sys.is_finalizing():  # then no thread answers any more
            door.close()

    @property
    def offer(self) -> dict[str, Any] | None:
        """{kind, port, token} for the page that may send; None while nothing listens."""
        door = self._door
        if door is None:
            return None
        return {"kind": self._kind, "port": door.port, "token": self._token}

    def read(self, timeout_s: float) -> Chunk | None:
        """What came since the last call, or None if nothing did within `timeout_s`.

        Raises SourceLost when the page left, EndOfStream once closed.
        """
        if self._closed.is_set() or self._door is None:
            raise EndOfStream
        if self._visit is None:
            self._begin(timeout_s)
            return None
        visit, door = self._visit, self._door
        with door.changed:
            door.changed.wait_for(lambda: visit or visit.over, timeout_s)
            parcels = visit.take()
        if self._closed.is_set():
            raise EndOfStream
        if parcels:
            self._heard_s = self._clock.now()
            return self._chunk(parcels)
        if visit.over:
            self._visit = None
            raise SourceLost(f"the page that shared its {_WHAT[self._kind]} left")
        if self._clock.now() - self._heard_s > _SILENT_S:
            door.dismiss(visit)
            self._visit = None
            raise SourceLost(f"the page that shares its {_WHAT[self._kind]} fell silent")
        return None

    def _begin(self, timeout_s: float) -> bool:
        """Wait for a page that has sent something, and make it the device."""
        door = self._door
        assert door is not None
        with door.changed:
            door.changed.wait_for(lambda: bool(door.visit) or self._closed.is_set(), timeout_s)
            visit = door.visit
            if not visit:
                return False
        self._visit = visit
        self._segment, self._next = self._segment + 1, 0
        self._heard_s = self._clock.now()
        if self._kind == "voice":
            self.info = StreamInfo(self._name, "voice", visit.rate_hz, ("mono",), "fs", (1,))
        else:
            colours = ("blue", "green", "red")
            self.info = StreamInfo(self._name, "face", None, colours, "jpeg", ())
        return True

    def _chunk(self, parcels: list[Parcel]) -> Chunk | None:
        """The parcels in one piece, without what was told before; None if all of it was."""
        first = at = max(self._next, parcels[0].index)
        rate_hz = self.info.rate_hz
        parts, stamps = [], []
        for parcel in parcels:
            items = parcel.items[at - parcel.index :]
            if len(items) == 0:
                continue
            before_s = 0.0 if rate_hz is None else len(items) / rate_hz
            stamps.append((at, parcel.time_s - before_s))
            at += len(items)
            parts.append(items)
        self._next = at
        if not parts:
            return None
        return Chunk(self._name, self._segment, first, tuple(stamps), np.concatenate(parts))
