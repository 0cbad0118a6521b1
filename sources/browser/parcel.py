"""What a page may send: a greeting, then sound or pictures, each checked before it is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from engine.errors import DataError
from engine.types import Array

__all__ = ["LIMITS", "Parcel", "greeted", "picture", "sound"]

LIMITS = {"voice": 1 << 17, "face": 1 << 20}  # bytes of one message, its head included
MAX_PIXELS = 1920 * 1080
_HEAD = struct.Struct("<Q")  # the index of the first item since the page began
_RATES_HZ = (8000, 96_000)
_SIZED = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG segments that tell the size (ITU-T T.81)
_BARE = {0x01, *range(0xD0, 0xD9)}  # segments without a length


@dataclass(frozen=True, slots=True)
class Parcel:
    """Items (time, …) of which the first has `index`, when they arrived, and in how many bytes."""

    index: int
    items: Array
    time_s: float
    n_bytes: int


def greeted(kind: str, told: str | bytes) -> float | None:
    """The rate that a page announces for its sound; None for pictures. Raises DataError."""
    try:
        greeting: Any = msgspec.json.decode(told)
    except (ValueError, RecursionError) as error:
        raise DataError("a page begins with a greeting in JSON") from error
    if not isinstance(greeting, dict) or greeting.get("kind") != kind:
        raise DataError(f"this port takes a page that sends {kind}")
    if kind != "voice":
        return None
    rate_hz: Any = greeting.get("rate_hz")
    if type(rate_hz) not in (int, float) or not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise DataError(f"rate_hz: {rate_hz!r} is no rate of sound")
    return float(rate_hz)


def sound(told: str | bytes, time_s: float) -> Parcel:
    """Samples, 16 bit and little-endian, as (time, 1) of full scale 1. Raises DataError."""
    index, body = _split(told)
    if len(body) % 2 or not body:
        raise DataError(f"{len(body)} bytes are no samples of 16 bits")
    items = np.frombuffer(body, "<i2").astype(np.float32)[:, None] / np.float32(32768.0)
    return Parcel(index, items, time_s, len(told))


def picture(told: str | bytes, time_s: float) -> Parcel:
    """A JPEG file of bounded size, as (1,) of bytes; it is not decoded. Raises DataError."""
    index, body = _split(told)
    width, height = _size(body)
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"a picture of {width} x {height} pixels; at most {MAX_PIXELS} in all")
    items = np.empty(1, object)
    items[0] = body
    return Parcel(index, items, time_s, len(told))


def _split(told: str | bytes) -> tuple[int, bytes]:
    if isinstance(told, str) or len(told) < _HEAD.size:
        raise DataError("expected bytes that begin with an index of eight")
    (index,) = _HEAD.unpack_from(told)
    if index >= 1 << 62:
        raise DataError(f"the index {index} is too large")
    return index, told[_HEAD.size :]


def _size(jpeg: bytes) -> tuple[int, int]:
    """Width and height out of a JPEG file's frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while jpeg[:2] == b"\xff\xd8" and at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        kind = jpeg[at + 1]
        if kind in _SIZED:
            height, width = struct.unpack_from(">HH", jpeg, at + 5)
            return width, height
        at += 2 if kind in _BARE else 2 + max(2, int.from_bytes(jpeg[at + 2 : at + 4], "big"))
    raise DataError(f"{len(jpeg)} bytes are no JPEG file with a size")
