"""A camera as a source: a child process captures, this side watches that it is alive."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Chunk, StreamInfo
from sources.camera.capture import ENDED, HEADER, NOT_THERE

__all__ = ["CameraSource"]

_FIRST_S = 10.0  # opening a camera, or a network stream, takes a while
_SILENT_S = 2.0  # without a picture for so long, the capture is killed
_FROZEN_S = 2.0  # no camera sends the very same picture for so long
_PIPE = 1 << 20
_MAX_JPEG = 1 << 26


class CameraSource:
    """A camera by `device`: an index, the path of a video file, or an http, https or rtsp URL.

    Pictures come as JPEG of `quality`, at most `rate_hz` a second, stamped on their arrival; a
    file is paced like a camera and ends. The core puts them on a regular grid. A capture that
    falls silent, breaks off or shows the same picture again and again for two seconds is ended
    and begun anew, as a new segment; files are not taken for frozen.
    """

    info: StreamInfo

    def __init__(
        self,
        device: int | str = 0,
        rate_hz: float | None = 15.0,
        width: int | None = None,
        height: int | None = None,
        quality: int = 90,
        stream: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not 10 <= quality <= 100:
            raise ConfigError(f"quality: {quality}; need 10 to 100")
        if rate_hz is not None and not 0 < rate_hz <= 240:
            raise ConfigError(f"rate_hz: {rate_hz:g}; need more than 0, at most 240")
        self._file = isinstance(device, str) and "://" not in device
        if self._file and not Path(str(device)).is_file():
            raise ConfigError(f"device: {device}: no such video file; a camera is given by number")
        self._told = {
            "device": device, "rate_hz": rate_hz, "width": width, "height": height,
            "quality": quality, "paced": self._file,
        }  # fmt: skip
        self._clock = clock or MonotonicClock()
        self._shift_s = self._clock.now() - MonotonicClock().now()
        self.info = StreamInfo(stream or "face", "face", None, ("blue", "green", "red"), "jpeg", ())
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._segment, self._next = -1, 0
        self._heard_s = 0.0  # when the last picture came
        self._picture, self._changed_s = b"", 0.0  # the last one, and since when it is the same

    def __enter__(self) -> CameraSource:
        self._begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        self._end()

    def read(self, timeout_s: float) -> Chunk | None:
        """The pictures that came: items are JPEG files, as bytes. None after `timeout_s`.

        Raises SourceLost when the capture had to be given up, EndOfStream at a file's end.
        """
        if self._closed.is_set():
            raise EndOfStream
        if self._process is None:
            self._begin()
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        data = os.read(self._process.stdout.fileno(), _PIPE) if ready else None
        if data == b"":
            self._over()
        self._buffer += data or b""
        found = self._pictures()
        now_s = self._clock.now()
        if not found:
            silent_s = _SILENT_S if self._next else _FIRST_S
            if now_s - self._heard_s > silent_s:
                raise self._lost(f"gave no picture for {silent_s:g} s")
            return None
        self._heard_s = now_s
        return self._chunk(found)

    def _chunk(self, found: list[tuple[float, bytes]]) -> Chunk:
        for time_s, picture in found:
            if picture != self._picture:
                self._picture, self._changed_s = picture, time_s
        if not self._file and found[-1][0] - self._changed_s > _FROZEN_S:
            raise self._lost(f"shows the same picture for over {_FROZEN_S:g} s")
        first, self._next = self._next, self._next + len(found)
        data = np.empty(len(found), object)
        data[:] = [picture for _, picture in found]
        stamps = tuple((first + i, t + self._shift_s) for i, (t, _) in enumerate(found))
        return Chunk(self.info.name, self._segment, first, stamps, data, (), self._shift_s)

    def _pictures(self) -> list[tuple[float, bytes]]:
        """Every whole picture in the buffer, with its time."""
        found, at, buffer = [], 0, self._buffer
        while len(buffer) - at >= HEADER.size:
            time_s, n = HEADER.unpack_from(buffer, at)
            if n > _MAX_JPEG:
                raise self._lost("sent what is no picture")
            if len(buffer) - at - HEADER.size < n:
                break
            at += HEADER.size
            found.append((time_s, bytes(buffer[at : at + n])))
            at += n
        del buffer[:at]
        return found

    def _begin(self) -> None:
        command = [sys.executable, "-m", "sources.camera.capture", json.dumps(self._told)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._buffer.clear()
        self._segment, self._next = self._segment + 1, 0
        self._heard_s = self._clock.now()
        self._picture, self._changed_s = b"", 0.0

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _over(self) -> None:
        """The capture ended by itself: what that means, as an exception."""
        assert self._process is not None
        code = self._process.wait()
        if code == ENDED and self._file:
            self._end()
            self._closed.set()
            raise EndOfStream
        if code == NOT_THERE:
            raise self._lost("cannot be opened; vagus devices lists the cameras that can")
        raise self._lost(f"broke off (exit status {code})")

    def _lost(self, why: str) -> SourceLost:
        self._end()
        self._clock.wait_until(self._clock.now() + 0.2, self._closed)  # no mad respawning
        return SourceLost(f"camera {self._told['device']!r} {why}")
