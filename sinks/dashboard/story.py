"""What a page that opens late has to be told of a session, as JSON texts."""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from engine.types import Event, Health, Marker, Message, Prediction, Schema
from engine.wire import to_json

__all__ = ["Story", "preview_text", "text"]

_HISTORY_S = 180.0  # of predictions
_MAX_HISTORY = 4000
_NOTES = 60  # events and markers
_KEPT = ("t", "probabilities", "label", "confidence", "dimensions", "truth")


def text(kind: str, **body: Any) -> str:
    """A message to the page."""
    return msgspec.json.encode({"type": kind, **body}).decode()


class Story:
    """One session so far: its schema, the predictions of the last minutes, events, health."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._schema: Schema | None = None
        self._prediction: Prediction | None = None
        self._health: Health | None = None
        self._history: deque[dict[str, Any]] = deque(maxlen=_MAX_HISTORY)
        self._notes: deque[Event | Marker] = deque(maxlen=_NOTES)

    @property
    def begins(self) -> bool:
        """Whether no prediction was told yet."""
        return self._prediction is None

    def take(self, message: Message) -> str:
        """Remember a message; returns it as text for the pages that are open."""
        if isinstance(message, Schema):
            self._schema = message
        elif isinstance(message, Prediction):
            self._prediction = message
            self._history.append(_kept(message))
            while self._history[0]["t"] < message.t - _HISTORY_S:
                self._history.popleft()
        elif isinstance(message, Health):
            self._health = message
        else:
            self._notes.append(message)
        return text(message.kind, **to_json(message))

    def precede(self, earlier: Sequence[Message]) -> str:
        """Remember what was said before, oldest first; returns the history anew."""
        shown = [_kept(message) for message in earlier if isinstance(message, Prediction)]
        begin_s = self._history[0]["t"] if self._history else math.inf
        self._history.extendleft(p for p in reversed(shown) if p["t"] < begin_s)
        known = [m for m in earlier if isinstance(m, Event | Marker)]
        notes = {(note.kind, note.seq): note for note in (*known, *self._notes)}
        self._notes.clear()
        self._notes.extend(notes.values())
        return text("history", predictions=list(self._history))

    def told(self) -> Iterator[str]:
        """Everything that a page needs to begin with."""
        if self._schema is not None:
            yield text("schema", **to_json(self._schema))
        yield text("history", predictions=list(self._history))
        for message in (*self._notes, self._health, self._prediction):
            if message is not None:
                yield text(message.kind, late=True, **to_json(message))


def _kept(prediction: Prediction) -> dict[str, Any]:
    told = to_json(prediction)
    return {key: told.get(key) for key in _KEPT}


def preview_text(told: dict[str, Any]) -> str:
    """A preview for the page: bytes in base64, null for what is no number."""
    streams = {name: _plain(stream) for name, stream in told["streams"].items()}
    return text("preview", session=told["session"], t=told["t"], streams=streams)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
