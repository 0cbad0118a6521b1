"""A recorder as a laboratory runs it: real LSL inlets, their clocks, and an XDF file at the end.

The format: chunks of (size of the length, length, tag, content) behind `XDF:`; tag 1 is the file's
header, 2 a stream's, 3 samples, 4 a clock offset, 6 a stream's footer. Apart from the project's
own code, so that it can prove it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pylsl

PATIENCE_S = 20.0
_TEXT = 3  # liblsl's code for strings
_DOUBLE, _FLOAT = 2, 1
_FORMS = {_FLOAT: "f", _DOUBLE: "d"}


class LabRecorder:
    """Records the streams of these names from now on; raw stamps, and offsets beside them."""

    def __init__(self, *names: str) -> None:
        self._inlets = [_inlet(name) for name in names]
        self._infos = [inlet.info(PATIENCE_S) for inlet in self._inlets]
        self._body = b"".join(
            _chunk(2, struct.pack("<I", k) + info.as_xml().encode())
            for k, info in enumerate(self._infos, 1)
        )
        self.counts = [0 for _ in names]

    def until(self, enough: Callable[[], bool]) -> None:
        """Record until `enough()`; the clocks are compared before, and every half second."""
        end_s, measured_s = time.monotonic() + PATIENCE_S, -1.0
        while not enough():
            assert time.monotonic() < end_s, f"recorded no more than {self.counts}"
            if time.monotonic() - measured_s > 0.5:
                self._compare()
                measured_s = time.monotonic()
            for k, inlet in enumerate(self._inlets):
                values, stamps = inlet.pull_chunk(timeout=0.02, max_samples=4096)
                if stamps:
                    self._body += _samples(k + 1, self._infos[k], values, stamps)
                    self.counts[k] += len(stamps)
        self._compare()

    def write(self, path: Path) -> Path:
        """The file; the inlets are closed."""
        head = _chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>')
        feet = b"".join(
            _chunk(6, struct.pack("<I", k) + b"<info><sample_count>%d</sample_count></info>" % n)
            for k, n in enumerate(self.counts, 1)
        )
        path.write_bytes(b"XDF:" + head + self._body + feet)
        for inlet in self._inlets:
            inlet.close_stream()
        return path

    def _compare(self) -> None:
        for k, inlet in enumerate(self._inlets, 1):
            offset_s = inlet.time_correction(PATIENCE_S)
            self._body += _chunk(4, struct.pack("<Idd", k, pylsl.local_clock(), offset_s))


def _inlet(name: str) -> Any:
    found = pylsl.resolve_byprop("name", name, timeout=PATIENCE_S)
    assert found, f"no stream '{name}'"
    inlet = pylsl.StreamInlet(found[0])
    inlet.open_stream(PATIENCE_S)
    return inlet


def _samples(stream: int, info: Any, values: list[list[Any]], stamps: list[float]) -> bytes:
    out = [struct.pack("<IBI", stream, 4, len(stamps))]
    for row, stamp_s in zip(values, stamps, strict=True):
        out.append(struct.pack("<Bd", 8, stamp_s))
        if info.channel_format() == _TEXT:
            out += [struct.pack("<BI", 4, len(text.encode())) + text.encode() for text in row]
        else:
            out.append(struct.pack(f"<{len(row)}{_FORMS[info.channel_format()]}", *row))
    return _chunk(3, b"".join(out))


def _chunk(tag: int, content: bytes) -> bytes:
    return struct.pack("<BIH", 4, len(content) + 2, tag) + content
