"""The input log of one session: every input and message of a run, in the engine's order, on disk.

The engine's loop only packs a record and queues it; a thread of the log's own writes. A disk that
is slow, full or broken therefore neither holds up nor breaks the engine: it ends the recording.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from engine.clock import Clock
from engine.errors import ResourceError
from engine.log.format import (
    FRAME,
    HEAD,
    MESSAGE,
    OUTPUTS,
    Layout,
    LogHeader,
    encode,
    encode_chunk,
    opening,
)
from engine.log.name import expand_name
from engine.types import Chunk

__all__ = ["LogHeader", "LogWriter", "expand_name"]

_HEAD_REST = HEAD.size - 9 + FRAME.size  # what a record's length counts beside its content
_MAX_RECORDS = 2**32
_CLOSE_S = 2.0  # how long the end may take


class LogWriter:
    """Writes one log; every method returns at once and none raises because of the disk.

    What was given is on the operating system's side within `flush_s`, and on the disk within
    `sync_s` more. The recording fails on a write error, or when more than `max_waiting_bytes`
    queue up; the file then ends with its last whole record, and `lost` counts the records that
    are not in it. Raises ResourceError if `path` exists or cannot be made. One thread gives.
    """

    def __init__(
        self,
        path: str | Path,
        header: LogHeader,
        *,
        clock: Clock,
        raw: bool = True,
        flush_s: float = 0.2,
        sync_s: float = 5.0,
        max_waiting_bytes: int = 64 << 20,
    ) -> None:
        self.path = Path(path)
        self._raw = raw
        self._clock = clock
        self._pause_s = flush_s / 2  # so that a late wake-up still keeps the promise
        self._sync_s = sync_s
        self._max_waiting_bytes = max_waiting_bytes
        self._layout = Layout()
        self._given = 0  # records; also the next sequence number
        self._given_bytes = 0
        self._log_ns = 0
        self._written = 0  # records that are whole in the file,
        self._size = 0  # the bytes up to the end of the last one,
        self._crc = 0  # and the checksum over these
        self._waiting: deque[bytes] = deque()
        self._wake = threading.Event()
        self._state = "writing"
        self._failed: str | None = None
        self._fd = _create(self.path)
        about = replace(header, raw=raw)
        values = [getattr(about, field.name) for field in fields(about)]
        self._put("header", encode("header", *values), opening())
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    # -- what the loop tells ------------------------------------------------------------------

    def chunk(self, chunk: Chunk) -> None:
        """A chunk is about to be pushed."""
        self._put(f"chunk/{chunk.stream}", encode_chunk(chunk, self._raw))

    def advance(self, now_s: float) -> None:
        """The session is about to be told the time."""
        self._put("advance", encode("advance", now_s))

    def command(self, verb: str, args: Mapping[str, Any]) -> None:
        """A command is about to be carried out."""
        self._put("command", encode("command", verb, args))

    def source(self, stream: str, code: str, detail: Mapping[str, Any], t: float) -> None:
        """A source told something beside its chunks."""
        self._put("source", encode("source", stream, code, detail, t))

    def shed(self, tick: int) -> None:
        """A tick is about to be given up unrun."""
        self._put("shed", encode("shed", tick))

    def message(self, kind: str, body: bytes) -> None:
        """A message went out; `body` is what the wire carried."""
        assert kind in OUTPUTS, kind
        self._put(kind, body)

    def close(self, account: Mapping[str, Any]) -> None:
        """End the log with the final account; waits two seconds for the disk at most."""
        self.finish(account)
        self.join()

    def finish(self, account: Mapping[str, Any]) -> None:
        """End the log with the final account, without waiting; `state` tells when it is closed."""
        if self._state != "writing":
            return
        self._put("end", encode("end", account))
        self._state = "closing"
        self._wake.set()

    def join(self) -> None:
        """Wait for the end of a log that was finished, two seconds at most."""
        if self._state not in ("closing", "closed"):
            return
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._fail(f"{self.path} did not take its end within {_CLOSE_S:g} s")

    # -- what there is to know ----------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of writing, closing, closed, failed."""
        return self._state

    @property
    def failed(self) -> str | None:
        """Why the recording stopped before its end; None while it did not."""
        return self._failed

    @property
    def records(self) -> int:
        """Records given so far, with the header and the end."""
        return self._given

    @property
    def written(self) -> int:
        """Records that are whole on the operating system's side."""
        return self._written

    @property
    def lost(self) -> int:
        """Records given that the file will not hold."""
        return self._given - self._written if self._state in ("closed", "failed") else 0

    # -- inside -------------------------------------------------------------------------------

    def _put(self, topic: str, content: bytes, before: bytes = b"") -> None:
        sequence = self._given
        self._given += 1
        if self._state != "writing":
            return
        if sequence >= _MAX_RECORDS:
            self._fail(f"{self.path} has as many records as a log can number")
            return
        self._log_ns = log_ns = max(self._log_ns, int(self._clock.now() * 1e9))
        channel, opened = self._layout.channel(topic)
        size = len(content)
        head = HEAD.pack(MESSAGE, _HEAD_REST + size, channel, sequence, log_ns, log_ns)
        checksum = self._layout.checksum(channel, head, content)
        self._layout.count(channel, log_ns, checksum)
        frame = FRAME.pack(0x93, 0xCE, checksum, 0xCE, size)
        piece = b"".join((before, opened, head, frame, content))
        self._waiting.append(piece)
        self._given_bytes += len(piece)
        waiting_bytes = self._given_bytes - self._size
        if waiting_bytes > self._max_waiting_bytes:
            self._fail(f"the disk of {self.path} is too slow: {waiting_bytes} bytes wait for it")

    def _run(self) -> None:
        """The thread: empty the queue, again and again, and write the closing at the end."""
        try:
            self._write_pieces()
        except OSError as error:
            self._fail(f"cannot write {self.path}: {error.strerror or error}")
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)  # back to the last whole record
        finally:
            self._waiting.clear()
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def _write_pieces(self) -> None:
        synced_s = time.monotonic()
        while self._failed is None:
            ending = self._state == "closing"  # known before the queue is emptied
            self._empty()
            if ending:
                _write(self._fd, self._layout.closing(self._size, self._crc))
            if ending or time.monotonic() - synced_s >= self._sync_s:
                os.fsync(self._fd)
                synced_s = time.monotonic()
            if ending:
                self._state = "closed" if self._failed is None else "failed"
                return
            self._wake.wait(self._pause_s)

    def _empty(self) -> None:
        """Write what waits, and count what of it got through."""
        pieces = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            _write(self._fd, b"".join(pieces))
        finally:
            done = os.lseek(self._fd, 0, os.SEEK_CUR) - self._size
            for piece in pieces:
                done -= len(piece)
                if done < 0:
                    break
                self._crc = zlib.crc32(piece, self._crc)
                self._size += len(piece)
                self._written += 1

    def _fail(self, reason: str) -> None:
        if self._failed is None and self._state != "closed":
            self._failed = reason
            self._state = "failed"
            self._wake.set()


def _create(path: Path) -> int:
    try:
        os.makedirs(path.parent, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError as error:
        raise ResourceError(
            f"{path} exists, and a recording overwrites nothing: choose another name, "
            "or let %n in the name count"
        ) from error
    except OSError as error:
        raise ResourceError(f"cannot make {path}: {error.strerror}") from error


def _write(fd: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        n = os.write(fd, view)
        if n == 0:
            raise OSError(errno.ENOSPC, "nothing more is taken")
        view = view[n:]
