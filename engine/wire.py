"""Messages to and from the bytes that travel: one msgpack map each, under a topic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import msgspec

from engine.errors import DataError
from engine.types import Event, Health, Marker, Message, Prediction, Schema

__all__ = [
    "EVENT_CODES",
    "KINDS",
    "MAX_DEPTH",
    "MAX_MESSAGE",
    "VERSION",
    "WireError",
    "decode",
    "encode",
    "prefix",
    "to_json",
    "topic",
    "unpack",
]

VERSION: Final = 1
MAX_MESSAGE: Final = 16 << 20  # bytes
MAX_DEPTH: Final = 32  # maps and lists inside one another

EVENT_CODES: Final = frozenset({
    "source.connected", "source.lost", "source.back", "source.stalled", "source.refused",
    "source.frozen", "stream.segment", "stream.gap", "stream.rate", "stream.quality",
    "stream.overrun", "window.invalid", "bundle.swapped", "bundle.refused", "session.joined",
    "session.left", "recording.started", "recording.stopped", "recording.full",
    "subscriber.rejected", "input.drift", "degraded", "recovered", "shutdown",
})  # fmt: skip

_TYPES: Final[Mapping[str, type[Message]]] = MappingProxyType(
    {message.kind: message for message in (Schema, Prediction, Event, Marker, Health)}
)
KINDS: Final = tuple(_TYPES)

_NAMES = {kind: ("v", *(f.name for f in fields(of))) for kind, of in _TYPES.items()}
_VALUES: Mapping[str, Callable[[Message], tuple[Any, ...]]] = {
    kind: attrgetter(*names[1:]) for kind, names in _NAMES.items()
}
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = {kind: msgspec.msgpack.Decoder(of).decode for kind, of in _TYPES.items()}


class _Head(msgspec.Struct):
    """The one key that every message of every version has."""

    v: int


_DECODE_HEAD = msgspec.msgpack.Decoder(_Head).decode
_PLAIN = frozenset({type(None), bool, int, float, str, list, dict})


class WireError(DataError):
    """Bytes that are no message, or a message of another kind or version."""


def topic(session: str, kind: str) -> bytes:
    """The first part of a message of `kind`, such as b"vagus/1/p01/prediction"."""
    return prefix(session) + kind.encode()


def prefix(session: str | None = None) -> bytes:
    """What the topics of `session` begin with, or those of all sessions.

    It ends with a slash: without one, p1 would select p10 as well.
    """
    start = f"vagus/{VERSION}/"
    return (start if session is None else f"{start}{session}/").encode()


def encode(message: Message) -> bytes:
    """The body of `message`: plain msgpack, strings UTF-8, floats float64.

    Its maker vouches for plain Python values; anything else is our fault and raises TypeError.
    """
    return _ENCODE(_to_map(message))


def decode(kind: str, body: bytes, *, max_bytes: int = MAX_MESSAGE) -> Message:
    """The message of `kind` that `body` holds; keys that are not known are ignored.

    Raises WireError, saying which key is missing or wrong, for anything else.
    """
    if kind not in _TYPES:
        raise WireError(f"no message is of kind {kind!r}; known: {', '.join(KINDS)}")
    if len(body) > max_bytes:
        raise WireError(f"a {kind} of {len(body)} bytes is too large; at most {max_bytes}")
    try:
        version = _DECODE_HEAD(body).v
        if version != VERSION:
            raise WireError(f"a {kind} of version {version}; this reader knows version {VERSION}")
        message = _DECODE[kind](body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"{len(body)} bytes are no {kind}: {error}") from error
    for name in _NAMES[kind][1:]:
        value = getattr(message, name)
        if type(value) is dict:  # only maps have parts that the decoder takes as they are
            _check_plain(value, f"{kind}.{name}", _PLAIN)
    return message


def unpack(body: bytes, what: str, *, with_bytes: bool = False) -> Any:
    """The value that msgpack bytes hold, made of plain parts; raises WireError about `what`."""
    try:
        value = msgspec.msgpack.decode(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"{what}: {len(body)} bytes are no msgpack: {error}") from error
    _check_plain(value, what, _PLAIN | {bytes} if with_bytes else _PLAIN)
    return value


def to_json(message: Message) -> dict[str, Any]:
    """The wire map of `message` for JSON: the same keys and values, null for NaN and infinity."""
    body: dict[str, Any] = _finite(_to_map(message))
    return body


def _to_map(message: Message) -> dict[str, Any]:
    kind = message.kind
    body = dict(zip(_NAMES[kind], (VERSION, *_VALUES[kind](message)), strict=True))
    if kind == "prediction" and body["truth"] is None:
        del body["truth"]
    return body


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _check_plain(value: Any, what: str, plain: Set[type]) -> None:
    """Raise WireError unless `value` is made of `plain` types, with text for keys, and is not
    nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for one in level:
            kind = type(one)
            if kind not in plain:
                raise WireError(f"{what} holds a {kind.__name__}; wanted text, numbers, maps")
            if kind is dict:
                for key in one:
                    if type(key) is not str:
                        raise WireError(f"{what} has the key {key!r}; wanted text")
                below += one.values()
            elif kind is list:
                below += one
        if not below:
            return
        level = below
    raise WireError(f"{what} is nested deeper than {MAX_DEPTH} maps and lists")
