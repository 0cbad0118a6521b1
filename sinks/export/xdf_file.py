"""The XDF format: named streams with their own clocks, written chunk by chunk.

Source of the layout: the XDF 1.0 specification. A chunk is [size of the length][length][tag]
[content]; tag 1 is the file's header, 2 a stream's, 3 samples, 4 a clock offset, 6 a stream's
footer. A sample without a stamp of its own follows the one before at the declared rate.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from xml.sax.saxutils import escape

import numpy as np

from engine.types import Array

__all__ = ["XdfChannel", "XdfWriter"]

_FILE, _STREAM, _SAMPLES, _OFFSET, _FOOTER = 1, 2, 3, 4, 6
_FORMS = {"f4": "float32", "f8": "double64", "i1": "int8", "i2": "int16", "i4": "int32",
          "i8": "int64", "u1": "int16", "u2": "int32"}  # fmt: skip
_KEPT = {"float32": "<f4", "double64": "<f8", "int8": "<i1", "int16": "<i2", "int32": "<i4",
         "int64": "<i8"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class XdfChannel:
    """One channel of a stream, as its description tells it."""

    label: str
    unit: str = ""
    kind: str = ""


@dataclass(slots=True)
class _Stream:
    form: str
    n: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    offsets: list[tuple[float, float]] = field(default_factory=list)


class XdfWriter:
    """Writes one XDF file; use as a context manager.

    `started_wall` is Unix seconds, or None. Streams get their numbers in the order of `stream`.
    """

    def __init__(self, path: Path, started_wall: float | None = None) -> None:
        self._file = path.open("wb")
        self._streams: list[_Stream] = []
        self._file.write(b"XDF:")
        date = ""
        if started_wall is not None:
            told = datetime.fromtimestamp(started_wall, UTC).isoformat()
            date = f"<datetime>{told}</datetime>"
        self._put(_FILE, f'<?xml version="1.0"?><info><version>1.0</version>{date}</info>'.encode())

    def __enter__(self) -> XdfWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self._file.close()

    def stream(
        self,
        name: str,
        kind: str,
        rate_hz: float | None,
        dtype: np.dtype[np.generic],
        channels: Sequence[XdfChannel],
        about: Mapping[str, str] | None = None,
    ) -> int:
        """Declare a stream of numbers, or of text where `dtype` is object; returns its number."""
        form = "string" if dtype.kind == "O" else _FORMS.get(dtype.str[1:], "double64")
        self._streams.append(_Stream(form))
        number = len(self._streams)
        listed = "".join(
            "<channel>"
            + "".join(
                _tag(k, v) for k, v in (("label", c.label), ("unit", c.unit), ("type", c.kind))
            )
            + "</channel>"
            for c in channels
        )
        told = "".join(_tag(key, value) for key, value in (about or {}).items())
        xml = (
            '<?xml version="1.0"?><info>'
            + _tag("name", name) + _tag("type", kind)
            + _tag("channel_count", str(len(channels)))
            + _tag("nominal_srate", repr(rate_hz or 0.0)) + _tag("channel_format", form)
            + _tag("source_id", f"vagus-{number}-{name}")
            + f"<desc><channels>{listed}</channels>{told}</desc></info>"
        )  # fmt: skip
        self._put(_STREAM, struct.pack("<I", number) + xml.encode())
        return number

    def samples(self, number: int, data: Array, stamps: Mapping[int, float]) -> None:
        """Add `data` (time, channels); `stamps` {row: seconds of the stream's own clock}."""
        stream = self._streams[number - 1]
        n = len(data)
        if n == 0:
            return
        rows = _texts(data) if stream.form == "string" else _numbers(data, _KEPT[stream.form])
        parts = [struct.pack("<IBI", number, 4, n)]
        for i, row in enumerate(rows):
            stamp_s = stamps.get(i)
            parts.append(b"\0" if stamp_s is None else struct.pack("<Bd", 8, stamp_s))
            parts.append(row)
        self._put(_SAMPLES, b"".join(parts))
        if stamps:
            first, *_, last = (*sorted(stamps.values()), max(stamps.values()))
            stream.first_s = stream.first_s if stream.n else first
            stream.last_s = last
        stream.n += n

    def offset(self, number: int, at_s: float, offset_s: float) -> None:
        """Tell that at `at_s` of the stream's own clock the recording's was `offset_s` ahead."""
        self._streams[number - 1].offsets.append((at_s, offset_s))
        self._put(_OFFSET, struct.pack("<Idd", number, at_s, offset_s))

    def _finish(self) -> None:
        for number, stream in enumerate(self._streams, 1):
            offsets = "".join(
                f"<offset>{_tag('time', repr(at))}{_tag('value', repr(value))}</offset>"
                for at, value in stream.offsets
            )
            xml = (
                '<?xml version="1.0"?><info>'
                + _tag("first_timestamp", repr(stream.first_s))
                + _tag("last_timestamp", repr(stream.last_s))
                + _tag("sample_count", str(stream.n))
                + f"<clock_offsets>{offsets}</clock_offsets></info>"
            )
            self._put(_FOOTER, struct.pack("<I", number) + xml.encode())

    def _put(self, tag: int, content: bytes) -> None:
        size = len(content) + 2
        short = size < 1 << 32
        head = struct.pack("<BIH", 4, size, tag) if short else struct.pack("<BQH", 8, size, tag)
        self._file.write(head + content)


def _numbers(data: Array, kept: str) -> list[bytes]:
    raw = np.ascontiguousarray(data, kept).tobytes()
    size = len(raw) // len(data)
    return [raw[i : i + size] for i in range(0, len(raw), size)]


def _texts(data: Array) -> list[bytes]:
    encoded = [[str(value).encode() for value in row] for row in data]
    return [b"".join(struct.pack("<BI", 4, len(x)) + x for x in row) for row in encoded]


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"
