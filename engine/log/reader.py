"""Reads a log back, record by record: whole records only, each proven, in the engine's order.

mcap's own stream reader passes short and unknown records on without a word, so the framing is
read here; `mcap` reads a closed log all the same.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

from mcap.opcode import Opcode

from engine.errors import DataError
from engine.log.format import (
    FORMAT,
    FRAME,
    HEAD,
    MAGIC,
    MESSAGE,
    Layout,
    LogHeader,
    decode,
    opening,
)

__all__ = ["LogReader", "LogRecord", "RawRecord"]

_CHANNEL = int(Opcode.CHANNEL)
_DATA_END = int(Opcode.DATA_END)
_START = struct.Struct("<BQ")  # opcode, length
_LEAST = HEAD.size + FRAME.size  # no message is shorter
_PROFILE_AT = len(MAGIC) + _START.size
_TOPIC_AT = _START.size + 8  # behind both ids and the topic's length
_ZEROS = 512  # a power cut leaves whole disk blocks of zeros at a file's end


class LogRecord(NamedTuple):
    """One record; LogReader says what its `payload` is."""

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
        self.first_s = self.last_s = 0.0  # the engine's time at the first and the last of them
        with closing(self.raw_records()) as records:
            first = next(records, None)
        if first is None:
            raise DataError(f"{self.path} ends before its header does: nothing is left of it")
        if first.topic != "header":
            raise DataError(f"{self.path}: record 0 is '{first.topic}', not the header")
        self.first_s = first.log_s
        self.header: LogHeader = self._decode(first)

    def __iter__(self) -> Iterator[LogRecord]:
        for record in self.raw_records():
            if record.sequence:
                kind, _, stream = record.topic.partition("/")
                yield LogRecord(record.sequence, kind, stream or None, self._decode(record))

    def raw_records(self) -> Generator[RawRecord, None, None]:
        """All records, the header too, proven but not decoded."""
        self.torn_at, self.kept = None, 0
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error
        with file:
            walk = _Walk(file, self.path)
            for record in walk:
                self.kept, self.last_s = record.sequence + 1, record.log_s
                yield record
            self.torn_at = walk.torn_at

    def shed_ticks(self) -> frozenset[int]:
        """The ticks that were given up unrun, known before the first record is fed back."""
        return frozenset(self._decode(r) for r in self.raw_records() if r.topic == "shed")

    def _decode(self, record: RawRecord) -> Any:
        try:
            return decode(record.topic, record.content)
        except DataError as error:
            raise DataError(f"{self.path}: record {record.sequence}: {error}") from error


class _TornError(Exception):
    """The whole records end here."""


class _Walk:
    """One pass over a file, demanding every byte to be what the layout says."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.torn_at: int | None = None
        self._file, self._path = file, path
        self._size = file.seek(0, 2)
        self._left = self._size - file.seek(0)
        self._at = 0  # where the record at hand begins
        self._crc = 0  # over all before it
        self._layout = Layout()
        self._sequence = 0  # of the next message
        self._closed = False

    def __iter__(self) -> Iterator[RawRecord]:
        try:
            self._read_opening()
            while not self._closed:
                record = self._next()
                if record is not None:
                    yield record
        except _TornError:
            self.torn_at = self._at

    def _take(self, n: int) -> bytes:
        taken = self._file.read(min(n, self._left))
        self._left -= len(taken)
        return taken

    def _read_opening(self) -> None:
        found = self._take(len(opening()))
        self._crc = zlib.crc32(found)
        if found == opening():
            return
        if opening().startswith(found):
            raise _TornError
        if not found.startswith(MAGIC):
            raise DataError(f"{self._path} is not an MCAP file")
        size = int.from_bytes(found[_PROFILE_AT : _PROFILE_AT + 4], "little")
        profile = found[_PROFILE_AT + 4 :][:size]
        ours = re.fullmatch(rb"vagus/([0-9]+)", profile)
        if ours and int(ours[1]) > FORMAT:
            raise DataError(
                f"{self._path} was written by a newer vagus, in format {int(ours[1])}; "
                f"this one reads up to {FORMAT}"
            )
        raise DataError(
            f"{self._path} is an MCAP file, but no log of vagus: its profile is {profile!r}"
        )

    def _next(self) -> RawRecord | None:
        """The next record, if it is one of the engine's."""
        self._at = self._size - self._left
        start = self._take(_START.size)
        if len(start) < _START.size:
            raise _TornError
        opcode, length = _START.unpack(start)
        if opcode == _DATA_END:
            self._read_closing(start)
            return None
        if opcode not in (MESSAGE, _CHANNEL):
            raise self._damage(0, f"no record of a log begins with the byte {opcode:#04x}")
        raw = start + self._take(length)
        record, whole = None, len(raw) == _START.size + length
        if opcode == _CHANNEL:
            self._read_channel(raw, whole)
        else:
            record = self._read_message(raw, whole)
        self._crc = zlib.crc32(raw, self._crc)
        return record

    def _read_channel(self, raw: bytes, whole: bool) -> None:
        """The topic is free; all else of a channel follows from it."""
        size = int.from_bytes(raw[_TOPIC_AT - 4 : _TOPIC_AT], "little")
        topic = raw[_TOPIC_AT:][:size]
        complete = len(raw) >= _TOPIC_AT and len(topic) == size
        expected = self._layout.channel(topic.decode(errors="replace"))[1] if complete else b""
        if whole and raw == expected:
            return
        if whole or (complete and not expected.startswith(raw)):
            raise self._damage(len(raw), "its channel is not what the name asks for")
        raise _TornError

    def _read_message(self, raw: bytes, whole: bool) -> RawRecord:
        if len(raw) < _LEAST:
            raise self._damage(_LEAST, "its size is wrong") if whole else _TornError
        _, length, channel, sequence, log_ns, publish_ns = HEAD.unpack_from(raw)
        array, first, checksum, second, size = FRAME.unpack_from(raw, HEAD.size)
        if (array, first, second) != (0x93, 0xCE, 0xCE) or _START.size + length != _LEAST + size:
            raise self._damage(len(raw), "its size is wrong")
        if not whole:
            raise _TornError
        content = raw[_LEAST:]
        known = 0 < channel <= len(self._layout.topics) and log_ns == publish_ns
        if not known or checksum != self._layout.checksum(channel, raw[: HEAD.size], content):
            raise self._damage(len(raw), "its checksum is wrong")
        self._demand_order(sequence)
        self._sequence += 1
        self._layout.count(channel, log_ns, checksum)
        return RawRecord(sequence, self._layout.topics[channel - 1], log_ns / 1e9, content)

    def _demand_order(self, sequence: int) -> None:
        expected, last = self._sequence, self._sequence - 1
        where = f"{self._path}: at byte {self._at}"
        if sequence < expected:
            raise DataError(f"{where} record {sequence} stands again, behind record {last}")
        if sequence > expected:
            missing = (
                f"{expected} is"
                if sequence == expected + 1
                else f"{expected} to {sequence - 1} are"
            )
            raise DataError(f"{where} missing: {missing}; record {sequence} follows {last}")

    def _read_closing(self, start: bytes) -> None:
        """What stands behind the last message follows from all that stands before it."""
        expected = self._layout.closing(self._at, self._crc)
        found = start + self._take(self._left)
        if found == expected:
            self._closed = True
        elif expected.startswith(found):
            raise _TornError
        else:
            raise self._damage(len(expected), "the closing does not fit the records before it")

    def _damage(self, n_bytes: int, why: str) -> Exception:
        """The error to raise: `n_bytes` from here on are not a record of this log.

        If nothing but a power cut's zeros follow, or fill their end, the log is torn here.
        """
        zeros_at = max(self._at, min(self._at + n_bytes, self._size - _ZEROS))
        self._file.seek(zeros_at)
        blocks = iter(lambda: self._file.read(1 << 16), b"")
        if self._size - zeros_at >= _START.size and not any(map(any, blocks)):
            return _TornError()
        return DataError(
            f"{self._path}: record {self._sequence}, at byte {self._at}, is damaged: {why}; "
            f"the {self._sequence} records before it are whole"
        )
