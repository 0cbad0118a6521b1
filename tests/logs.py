"""Small logs that the tests of the log share, and their bytes taken apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from engine.clock import SettableClock
from engine.log import LogHeader, LogWriter
from engine.log.reader import LogRecord
from engine.types import Chunk, StreamInfo

EEG = StreamInfo("eeg", "eeg", 250.0, ("FP1", "FP2"), "uV", (2,))
HEADER = LogHeader("r1", "p01", '{"session": "p01"}', 10.5, 1.7e9, {"b": "00ff"}, {"eeg": EEG})
STAGE = {"in": 4, "made": {"gap": 1}, "out": 2, "held": 1, "dropped": {"late": 2}}
DEADLINE_S = 20.0


def body(seq: int, **more: Any) -> bytes:
    packed: bytes = msgpack.packb({"v": 1, "seq": seq, **more})
    return packed


def chunk(first: int, n: int = 2, stream: str = "eeg", segment: int = 0) -> Chunk:
    data = np.arange(first + 1, first + 1 + 2 * n, dtype=np.float32).reshape(n, 2) / 7
    stamps = ((first + n - 1, first / 7),)
    return Chunk(stream, segment, first, stamps, data, ((first, None), (first + 1, "calm")))


def fill(log: LogWriter) -> None:
    """One record of every kind, and some more."""
    log.command("connect", {"stream": "eeg", "info": EEG})
    log.chunk(chunk(0))
    log.source("eeg", "source.frozen", {"n": 3}, 11.25)
    log.advance(11.5)
    log.shed(1)
    log.chunk(chunk(2))
    log.message("prediction", body(0, tick=2))
    log.chunk(chunk(6, stream="bvp"))
    log.message("event", body(0, code="degraded"))
    log.message("prediction", body(1, tick=3))
    log.message("marker", body(0, value="start"))
    log.message("health", body(0, counters={"eeg": {"steps": STAGE}}))


def record(path: Path, tell: Callable[[LogWriter], None] = fill, **options: Any) -> Path:
    """A cleanly closed log of what `tell` tells."""
    clock = SettableClock(11.0)
    log = LogWriter(path, HEADER, clock=clock, **options)
    tell(log)
    clock.set(12.0)
    log.close({"eeg": {"steps": STAGE}})
    assert (log.state, log.failed, log.lost) == ("closed", None, 0)
    assert log.written == log.records
    return path


def spans(raw: bytes) -> list[tuple[int, int, int]]:
    """(opcode, start, end) of all MCAP records, by the book."""
    found, at = [], 8
    while at < len(raw) - 8:
        end = at + 9 + int.from_bytes(raw[at + 1 : at + 9], "little")
        found.append((raw[at], at, end))
        at = end
    return found


def messages(raw: bytes) -> list[tuple[int, int]]:
    return [(start, end) for opcode, start, end in spans(raw) if opcode == 5]


def unclosed(raw: bytes) -> bytes:
    """The log as a SIGKILL just after the last prediction, event and health leaves it."""
    return raw[: messages(raw)[-2][1]]


def same(one: LogRecord, other: LogRecord) -> bool:
    if not isinstance(one.payload, Chunk):
        return one == other
    a, b = one.payload, other.payload
    return (
        one[:3] == other[:3]
        and (a.stream, a.segment, a.first_index) == (b.stream, b.segment, b.first_index)
        and (a.stamps, a.truth) == (b.stamps, b.truth)
        and (a.data.dtype, a.data.shape) == (b.data.dtype, b.data.shape)
        and a.data.tobytes() == b.data.tobytes()
    )
