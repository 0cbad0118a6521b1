"""Proves a log: complete, in order, undamaged, each message once, and every account balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import DataError
from engine.log.format import OUTPUTS, ChunkRange, LogHeader
from engine.log.reader import LogReader
from engine.types import Chunk

__all__ = ["LogReport", "StreamReport", "check_log"]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The items of one stream that the log accounts for."""

    n_chunks: int
    n_items: int
    n_segments: int
    n_gaps: int  # jumps of the index within a segment,
    n_missing: int  # and the items that they skip
    n_repeated: int  # items whose index had come before


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a log was proven to hold. `clean` is False where it has no proper end."""

    path: Path
    header: LogHeader
    clean: bool
    torn_at: int | None  # byte at which the whole records end, if they end early
    n_records: int
    counts: Mapping[str, int]  # by kind
    streams: Mapping[str, StreamReport]
    first_s: float  # when the first record was given, engine seconds
    last_s: float
    account: Mapping[str, Any] | None  # the final one


class _Stage(msgspec.Struct, rename={"n_in": "in", "n_out": "out"}):
    n_in: int
    made: dict[str, int]
    n_out: int
    held: int
    dropped: dict[str, int]


class _Numbers(msgspec.Struct):
    """The numbers of a message of any kind."""

    seq: int
    tick: int | None = None
    counters: dict[str, Any] = {}


class _Indices:
    """Where the item indices of one stream have come to."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}  # by segment
        self._n_chunks = self._n_items = self._n_gaps = self._n_missing = self._n_repeated = 0

    def take(self, chunk: Chunk | ChunkRange) -> None:
        expected = self._next.get(chunk.segment, chunk.first_index)
        end = chunk.first_index + len(chunk)
        skipped = chunk.first_index - expected
        self._n_chunks += 1
        self._n_items += len(chunk)
        self._n_gaps += skipped > 0
        self._n_missing += max(0, skipped)
        self._n_repeated += max(0, min(end, expected) - chunk.first_index)
        self._next[chunk.segment] = max(expected, end)

    def report(self) -> StreamReport:
        return StreamReport(
            self._n_chunks, self._n_items, len(self._next),
            self._n_gaps, self._n_missing, self._n_repeated,
        )  # fmt: skip


class _Messages:
    """The numbers that the messages of each kind have come to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seq: dict[str, int] = {}
        self._tick: int | None = None

    def take(self, sequence: int, kind: str, body: bytes) -> None:
        where = f"{self._path}: record {sequence}: {kind}"
        try:
            numbers = msgspec.msgpack.decode(body, type=_Numbers)
        except msgspec.MsgspecError as error:
            raise DataError(f"{where}: {error}") from error
        last = self._seq.get(kind)
        if last is not None and numbers.seq != last + 1:
            how = "is doubled" if numbers.seq == last else f"follows {last}"
            raise DataError(f"{where} {numbers.seq} {how}; {last + 1} would be right")
        self._seq[kind] = numbers.seq
        if kind == "prediction":
            if numbers.tick is None or (self._tick is not None and numbers.tick <= self._tick):
                raise DataError(
                    f"{where} {numbers.seq} of tick {numbers.tick} follows {self._tick}"
                )
            self._tick = numbers.tick
        _demand_balance(f"{where} {numbers.seq}", numbers.counters)


def check_log(path: str | Path) -> LogReport:
    """Prove the log at `path` record by record.

    Raises DataError for whatever breaks a law: a changed byte, a missing or doubled record or
    message, an account that does not balance. An unclean end breaks none: the report names it.
    """
    reader = LogReader(path)
    streams: dict[str, _Indices] = {}
    messages = _Messages(reader.path)
    counts: Counter[str] = Counter(header=1)
    account: dict[str, Any] | None = None
    for sequence, kind, stream, payload in reader:
        if account is not None:
            raise DataError(f"{path}: record {sequence}: {kind} stands behind the end")
        counts[kind] += 1
        if kind == "chunk" and stream is not None:
            streams.setdefault(stream, _Indices()).take(payload)
        elif kind in OUTPUTS:
            messages.take(sequence, kind, payload)
        elif kind == "end":
            account = payload
            _demand_balance(f"{path}: record {sequence}: the final account", payload)
    if account is None and reader.torn_at is None:
        raise DataError(f"{path} was closed without its final account")
    return LogReport(
        path=reader.path,
        header=reader.header,
        clean=reader.torn_at is None,
        torn_at=reader.torn_at,
        n_records=reader.kept,
        counts=dict(counts),
        streams={name: indices.report() for name, indices in streams.items()},
        first_s=reader.first_s,
        last_s=reader.last_s,
        account=account,
    )


def _demand_balance(where: str, counters: Mapping[str, Any]) -> None:
    try:
        streams = msgspec.convert(counters, dict[str, dict[str, _Stage]])
    except msgspec.ValidationError as error:
        raise DataError(f"{where} is no account: {error}") from error
    for stream, stages in streams.items():
        for name, stage in stages.items():
            came = stage.n_in + sum(stage.made.values())
            went = stage.n_out + sum(stage.dropped.values()) + stage.held
            if came != went:
                raise DataError(
                    f"{where}: {stream}.{name} does not balance: in + made = {came}, "
                    f"out + dropped + held = {went}"
                )
