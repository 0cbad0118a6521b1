"""Reads a log back, record by record: whole records only, each proven, in the engine's order.

mcap's own stream reader passes short and unknown records on without a word, so the framing is
read here; `mcap` reads a closed log all the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from mcap.opcode import Opcode

from engine.errors import DataError
from engine.log_format import FORMAT, FRAME, HEAD, MAGIC, MESSAGE, Layout, LogHeader, decode, opening

__all__ = ["LogReader", "LogRecord", "RawRecord"]

_CHANNEL = int(Opcode.CHANNEL)
_DATA_END = int(Opcode.DATA_END)
_START = struct.Struct("<BQ")  # opcode, length
_LEAST = HEAD.size + FRAME.size  # no message is shorter
_ZEROS = 512  # a power cut leaves whole disk blocks of zeros at a file's end


class LogRecord(NamedTuple):
    """One record; `payload` is by kind: LogReader says which."""

    sequence: int
    kind: str
    stream: str | None
    payload: Any


class RawRecord(NamedTuple):
    """One record as it lies in the file; `log_s` is the engine's time at which it was given."""

    sequence: int
    topic: str
    log_s: float
    content: bytes


class LogReader:
    """A log's header, and its other records in order, as often as it is iterated.

    Payloads: `chunk` a Chunk, or a ChunkRange where the log is not raw; `advance` now_s;
    `command` a Command; `source` a SourceEvent; `shed` the tick; `end` the final account;
    `prediction`, `event`, `marker` and `health` the bytes that went over the wire.

    A torn file gives all its whole records; then `torn_at` is the byte at which they end. Raises
    DataError, naming the place, for a file that is no log, is of a newer format, or in which
    anything was changed, removed or added.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.torn_at: int | None = None
        self.kept = 0  # records, with the header, that the last iteration gave
        first = next(self.raw_records(), None)
        if first is None:
            raise DataError(f"{self.path} is torn before its header was complete: nothing is left")
        if first.topic != "header":
            raise DataError(f"{self.path}: record 0 is '{first.topic}', not the header")
        self.header: LogHeader = decode(first.topic, first.content)

    def __iter__(self) -> Iterator[LogRecord]:
        for record in self.raw_records():
            if record.sequence == 0:
                continue
            kind, _, stream = record.topic.partition("/")
            try:
                payload = decode(record.topic, record.content)
            except DataError as error:
                raise DataError(f"{self.path}: record {record.sequence}: {error}") from error
            yield LogRecord(record.sequence, kind, stream or None, payload)

    def raw_records(self) -> Iterator[RawRecord]:
        """All records, the header too, without a look into their content."""
        self.torn_at, self.kept = None, 0
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error
        with file:
            walk = _Walk(file, self.path)
            for record in walk:
                self.kept = record.sequence + 1
                yield record
            self.torn_at = walk.torn_at

    def shed_ticks(self) -> frozenset[int]:
        """The ticks that were given up unrun, known before the first record is fed back."""
        records = self.raw_records()
        return frozenset(decode(r.topic, r.content) for r in records if r.topic == "shed")


class _Walk:
    """One pass over a file, demanding every byte to be what the layout says."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.torn_at: int | None = None
        self._file = file
        self._path = path
        self._size = file.seek(0, 2)
        self._offset = file.seek(0)
        self._crc = 0
        self._layout = Layout()
        self._sequence = 0  # of the next message

    def __iter__(self) -> Iterator[RawRecord]:
        self._read_opening()
        while self.torn_at is None and self._offset < self._size:
            at = self._offset
            start = self._take(_START.size)
            if len(start) < _START.size:
                self.torn_at = at
                return
            opcode, length = _START.unpack(start)
            if opcode == _DATA_END:
                self._read_closing(at, start)
                return
            if opcode not in (MESSAGE, _CHANNEL):
                self._damaged(at, _START.size, f"nothing of a log begins with byte {opcode:#04x}")
                return
            whole = length <= self._size - self._offset
            raw = start + self._take(min(length, self._size - self._offset))
            if opcode == _CHANNEL:
                self._read_channel(at, raw, whole)
            elif (record := self._read_message(at, raw, whole)) is not None:
                yield record
            if self.torn_at is None:
                self._crc = zlib.crc32(raw, self._crc)
        if self.torn_at is None:
            self.torn_at = self._size

    def _take(self, n: int) -> bytes:
        taken = self._file.read(n)
        self._offset += len(taken)
        return taken

    def _read_opening(self) -> None:
        expected = opening()
        found = self._take(len(expected))
        self._crc = zlib.crc32(found)
        if found == expected:
            return
        if expected.startswith(found):
            self.torn_at = 0
            return
        if not found.startswith(MAGIC):
            raise DataError(f"{self._path} is not an MCAP file")
        ours, _, number = found[21:].partition(b"/")
        if ours == b"vagus" and number[:1].isdigit() and int(number[:1]) > FORMAT:
            raise DataError(
                f"{self._path} was written by a newer vagus, in format {int(number[:1])}; "
                f"this one reads up to {FORMAT}"
            )
        raise DataError(f"{self._path} is an MCAP file, but no log of vagus")

    def _read_channel(self, at: int, raw: bytes, whole: bool) -> None:
        """The topic is free; all else of a channel follows from it."""
        named = raw[_START.size + 8 :]  # behind both ids and the topic's length
        (size,) = struct.unpack_from("<I", raw.ljust(17, b"\xff"), 13)
        if size > len(named):
            if whole:
                self._damaged(at, len(raw), "its checksum or size is wrong")
            else:
                self.torn_at = at
            return
        topic = named[:size].decode(errors="replace")
        expected = self._layout.channel(topic)[1]
        if raw != expected and (whole or not expected.startswith(raw)):
            self._damaged(at, len(raw), "a channel is not what its name asks for")
        elif not whole:
            self.torn_at = at

    def _read_message(self, at: int, raw: bytes, whole: bool) -> RawRecord | None:
        if len(raw) < _LEAST:
            if whole:
                self._damaged(at, _LEAST, "its size is wrong")
            else:
                self.torn_at = at
            return None
        _, length, channel, sequence, log_ns, publish_ns = HEAD.unpack_from(raw)
        array, first, checksum, second, size = FRAME.unpack_from(raw, HEAD.size)
        if (array, first, second) != (0x93, 0xCE, 0xCE) or _START.size + length != _LEAST + size:
            self._damaged(at, len(raw), "its size is wrong")
            return None
        if not whole:
            self.torn_at = at
            return None
        content = raw[_LEAST:]
        known = 0 < channel <= len(self._layout.topics) and log_ns == publish_ns
        if not known or checksum != self._layout.checksum(channel, raw[: HEAD.size], content):
            self._damaged(at, len(raw), "its checksum is wrong")
            return None
        self._demand_order(at, sequence)
        self._sequence += 1
        self._layout.count(channel, log_ns, checksum)
        return RawRecord(sequence, self._layout.topics[channel - 1], log_ns / 1e9, content)

    def _demand_order(self, at: int, sequence: int) -> None:
        expected = self._sequence
        if sequence == expected:
            return
        where = f"{self._path}: at byte {at}"
        if sequence < expected:
            raise DataError(f"{where} record {sequence} stands again, behind {expected - 1}")
        missing = f"records {expected} to {sequence - 1} are"
        if sequence == expected + 1:
            missing = f"record {expected} is"
        raise DataError(f"{where} {missing} missing: {sequence} follows {expected - 1}")

    def _read_closing(self, at: int, start: bytes) -> None:
        expected = self._layout.closing(at, self._crc)
        found = start + self._take(self._size - self._offset)
        if found == expected:
            self._offset = self._size
            return
        ...

    def _damaged(self, at: int, n_bytes: int, why: str) -> None:
        """Raise, unless all there is from here on is what a power cut leaves behind."""
