"""The log's writer and the disk: whatever fails, the file is whole and the engine unharmed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import engine.log.writer
from engine.clock import MonotonicClock, SettableClock
from engine.errors import ResourceError
from engine.log import LogWriter
from engine.log.check import check_log
from engine.log.reader import LogReader
from tests.logs import HEADER, chunk, fill, messages, record

DEADLINE_S = 20.0


def until(true: Callable[[], bool]) -> None:
    """Wait for something that a thread does."""
    end_s = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end_s, "it never came"
        threading.Event().wait(0.005)


def test_what_was_given_reaches_the_file_though_nothing_more_is_given(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "a.mcap", HEADER, clock=SettableClock(), flush_s=0.05)
    log.advance(1.0)
    until(lambda: log.written == 2)
    assert [r.payload for r in LogReader(log.path)] == [1.0]
    log.close({})


def test_an_existing_file_is_never_overwritten_and_missing_folders_are_made(
    tmp_path: Path,
) -> None:
    path = record(tmp_path / "a" / "b" / "c.mcap")
    before = path.read_bytes()
    with pytest.raises(ResourceError, match=r"c\.mcap exists"):
        LogWriter(path, HEADER, clock=SettableClock())
    with pytest.raises(ResourceError, match="cannot make"):
        LogWriter(path / "d.mcap", HEADER, clock=SettableClock())
    assert path.read_bytes() == before


def test_a_clock_that_stands_still_or_began_below_zero_is_no_obstacle(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "a.mcap", HEADER, clock=SettableClock(-5.0))
    log.advance(-4.0)
    log.close({})
    assert check_log(log.path).first_s == 0.0


@pytest.mark.parametrize("passes", [0, 1, 50, 400, 700])
def test_a_failing_disk_ends_the_recording_at_a_whole_record_and_raises_nothing(
    passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = passes

    def failing(fd: int, block: bytes) -> None:
        nonlocal left
        part = block[:left]
        left -= os.write(fd, part) if part else 0
        if len(part) < len(block):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(engine.log.writer, "_write", failing)
    log = LogWriter(tmp_path / "a.mcap", HEADER, clock=SettableClock(), flush_s=0.01)
    fill(log)
    until(lambda: log.failed is not None)
    fill(log)
    log.close({})
    assert log.state == "failed"
    assert log.failed is not None
    assert "Input/output error" in log.failed
    assert log.records == 25  # the end was not given any more
    until(lambda: not log._thread.is_alive())
    assert log.lost == log.records - log.written > 0
    raw = log.path.read_bytes()
    assert len(messages(raw)) == log.written
    if log.written:
        reader = LogReader(log.path)
        assert len(list(reader)) + 1 == log.written
        assert reader.torn_at == len(raw)
    else:
        assert raw == b""


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed = threading.Event()
    real = engine.log.writer._write

    def hanging(fd: int, block: bytes) -> None:
        assert freed.wait(DEADLINE_S)
        real(fd, block)

    monkeypatch.setattr(engine.log.writer, "_write", hanging)
    monkeypatch.setattr(engine.log.writer, "_CLOSE_S", 0.05)
    slow = LogWriter(tmp_path / "a.mcap", HEADER, clock=SettableClock(), max_waiting_bytes=2000)
    for n in range(100):
        slow.chunk(chunk(2 * n))
    assert slow.failed is not None
    assert "too slow" in slow.failed
    late = LogWriter(tmp_path / "b.mcap", HEADER, clock=SettableClock())
    late.close({})
    assert late.state == "failed"
    assert late.failed is not None
    assert "did not take its end" in late.failed
    freed.set()
    for log in (slow, late):
        until(lambda log=log: not log._thread.is_alive())
        assert log.lost == log.records - log.written
        assert not check_log(log.path).clean


CHILD = """
import json, resource, sys, threading
import numpy as np
from engine.clock import MonotonicClock
from engine.log import LogHeader, LogWriter
from engine.types import Chunk

path, limit, flush_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
clock = MonotonicClock()
log = LogWriter(path, LogHeader("r", "s", "{}", 0.0, None, {}), clock=clock, flush_s=flush_s)
data = np.random.default_rng(0).standard_normal((20, 32)).astype(np.float32)
never = threading.Event()
n, end_s, told_s = 0, clock.now() + 60, 0.0
while log.failed is None and clock.now() < end_s:
    log.chunk(Chunk("eeg", 0, 20 * n, ((20 * n, clock.now()),), data))
    log.advance(clock.now())
    n += 1
    if clock.now() > told_s + 0.02:
        told_s = clock.now()
        print(log.written, flush=True)
    clock.wait_until(clock.now() + 0.001, never)
for _ in range(5):
    log.advance(clock.now())
log.close({})
print(json.dumps([log.state, log.failed, log.records, log.written, log.lost]))
"""


def child(path: Path, limit: int = 0, flush_s: float = 0.2) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(path), str(limit), str(flush_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_engine_leaves_all_but_the_last_moment(
    tmp_path: Path, count: Callable[[int], int]
) -> None:
    rng = np.random.default_rng(42)
    flush_s = 1.0
    for n in range(count(40)):
        path = tmp_path / f"{n}.mcap"
        wanted = int(rng.integers(2, 400))
        with child(path, flush_s=flush_s) as process:
            assert process.stdout is not None
            claimed = 0
            while claimed < wanted:
                claimed = int(process.stdout.readline())
            killed_s = time.monotonic()
            process.send_signal(signal.SIGKILL)
            claimed = max([claimed, *map(int, process.stdout.read().split())])
        assert process.returncode == -signal.SIGKILL
        report = check_log(path)
        assert not report.clean
        assert report.n_records >= claimed
        assert killed_s - report.last_s <= flush_s


def test_a_full_disk_ends_the_recording_and_not_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with child(path, limit=100_000) as process:
        out, _ = process.communicate(timeout=DEADLINE_S * 3)
    assert process.returncode == 0
    state, failed, records, written, lost = json.loads(out.splitlines()[-1])
    assert state == "failed"
    assert "File too large" in failed
    assert lost == records - written >= 5
    report = check_log(path)
    assert report.n_records == written > 10
    assert report.torn_at == path.stat().st_size <= 100_000
    assert not report.clean


def test_a_log_that_is_still_being_written_can_be_read(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "a.mcap", HEADER, clock=MonotonicClock(), flush_s=0.02)
    for n in range(200):
        log.chunk(chunk(2 * n))
        if log.written:
            assert check_log(log.path).n_records <= log.records
    log.close({})
    assert check_log(log.path).streams["eeg"].n_items == 400
