"""Raw previews: small pictures of the streams for dashboards, made only while somebody looks.

They stand beside the path to predictions: chunks are looked at after the session took them, and
nothing of a preview is logged, kept or counted in the account.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from engine import wire
from engine.inbox import Item
from engine.pictures import Picture, Spectrogram, Traces
from engine.seat import Seat
from engine.types import StreamInfo

__all__ = ["KIND", "PERIOD_S", "RENEW_S", "Outgoing", "Previews", "decode"]

KIND: Final = "preview"
PERIOD_S: Final = 0.2
RENEW_S: Final = 10.0  # a preview that nobody asked for again in this time ends

View = Traces | Spectrogram | Picture


class Outgoing(Protocol):
    """Where previews go: a socket that keeps nothing of them."""

    def pass_on(self, session: str, kind: str, body: bytes) -> None: ...


class Previews:
    """Which sessions are looked at, and what is shown of their streams.

    `due_s` is when `serve` has something to do, infinite while nobody looks. A face's picture is
    made only of sessions whose config has a `dashboard`: raw frames leave the engine only where
    the config says so.
    """

    def __init__(self) -> None:
        self.due_s = math.inf
        self._until_s: dict[str, float] = {}  # session: when it ends unless it is renewed
        self._views: dict[tuple[str, str], View] = {}
        self._seq: dict[str, int] = {}

    def switch(self, session: str, on: bool, now_s: float) -> None:
        """Show a session for RENEW_S from now, or no longer."""
        if on:
            self._until_s[session] = now_s + RENEW_S
            self.due_s = min(self.due_s, now_s + PERIOD_S)
            return
        self._until_s.pop(session, None)
        self._views = {key: view for key, view in self._views.items() if key[0] != session}
        if not self._until_s:
            self.due_s = math.inf

    def forget(self, session: str) -> None:
        """The session is over; its numbers start anew if it comes again."""
        self.switch(session, False, 0.0)
        self._seq.pop(session, None)

    def take(self, item: Item, seat: Seat) -> None:
        """Look at what a stream sent, if its session is looked at."""
        if item.chunk is None or item.session not in self._until_s:
            return
        lane = seat.session.slots[item.stream].lane
        if lane is None:
            return
        key = (item.session, item.stream)
        view = self._views.get(key)
        if view is None or view.info != lane.info:
            made = _view(lane.info, seat.config.dashboard is not None)
            if made is None:
                return
            view = self._views[key] = made
        view.take(item.chunk)

    def serve(self, now_s: float, seats: Mapping[str, Seat], out: Outgoing) -> None:
        """Send what is due, and end what was not renewed."""
        if now_s < self.due_s:
            return
        self.due_s = now_s + PERIOD_S
        for session, until_s in list(self._until_s.items()):
            seat = seats.get(session)
            if seat is None or now_s >= until_s:
                self.switch(session, False, now_s)
                continue
            out.pass_on(session, KIND, self._body(seat, now_s))

    def _body(self, seat: Seat, now_s: float) -> bytes:
        streams: dict[str, Any] = {}
        for name, slot in seat.session.slots.items():
            view = self._views.get((seat.name, name))
            told = None if view is None else view.told(getattr(slot.lane, "notes", {}))
            if told is not None:
                streams[name] = told
        seq = self._seq.get(seat.name, 0)
        self._seq[seat.name] = seq + 1
        about = {"v": wire.VERSION, "run": seat.session.plan.run, "session": seat.name}
        return msgspec.msgpack.encode(about | {"seq": seq, "t": now_s, "streams": streams})


def decode(body: bytes) -> dict[str, Any]:
    """The map of a preview: {v, run, session, seq, t, streams{name: {kind, ...}}}.

    eeg, physio: `unit`, `channels`, `rate_hz` of the bins, `end_s`, and `low`, `high` as one list
    per channel. voice: `columns` as bytes, `bands` of them a column, lowest first, 0 to 255 for
    -100 to 0 dB, `rate_hz` of the columns, `low_hz`, `high_hz`, `end_s`. face: `jpeg` as bytes
    or null, `width`, `height`, and `box` [x, y, width, height] in its pixels, or null. Raises
    WireError for anything else.
    """
    if len(body) > wire.MAX_MESSAGE:
        raise wire.WireError(f"a preview of {len(body)} bytes is too large")
    told = wire.unpack(body, "a preview", with_bytes=True)
    if not isinstance(told, dict) or told.get("v") != wire.VERSION or "streams" not in told:
        raise wire.WireError("these bytes are no preview of this version")
    return told


def _view(info: StreamInfo, pictures: bool) -> View | None:
    """What is shown of such a stream; None for markers."""
    if info.kind == "face":
        return Picture(info, shown=pictures)
    if info.rate_hz is None or len(info.shape) != 1:
        return None
    return Spectrogram(info) if info.kind == "voice" else Traces(info)
