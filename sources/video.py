"""Recordings in video files: the pictures, decoded from disk piece by piece, and their sound."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.containers import shortfall
from sources.recording import RecordedStream, Recording
from sources.soundtrack import read_soundtrack

__all__ = ["CHANNELS", "UNIT", "VIDEO", "read_video"]

VIDEO = frozenset({".avi", ".flv", ".mkv", ".mov", ".mp4", ".webm"})
CHANNELS = ("blue", "green", "red")
UNIT = "level"  # of 0 to 255
_NTSC = 1000.0 / 1001.0
_USUAL_HZ = (15.0, 24.0 * _NTSC, 24.0, 25.0, 30.0 * _NTSC, 30.0, 50.0, 60.0 * _NTSC, 60.0)
_DEFAULT_HZ = 25.0  # where the header tells none
_ROUNDED = 2e-3  # how far a rate may be off a usual one where stamps are whole milliseconds
_JUMP_S = 1.0  # so long without a picture, and a new segment begins
_CUT_OFF = "the file was cut off or changed"


@dataclass(frozen=True, slots=True)
class _Index:
    """What one pass through a file found: every picture's time (n,), and the size of all."""

    times_s: Array
    shape: tuple[int, int, int]
    rate_hz: float  # as the header says; may be anything


def read_video(path: Path) -> Recording:
    """Read a film as the stream `face`, whose items are (height, width, blue green red) uint8.

    A film of constant rate has that rate; one whose rate varies has its mean and the film's own
    stamps, and a new segment behind every second without a picture. The pictures are counted once,
    by decoding them: what headers say of their number is an estimate. The sound is the stream
    `voice`, see `soundtrack`.
    """
    if why := shortfall(path):
        raise DataError(f"{path}: {why}; {_CUT_OFF}")
    stat = path.stat()
    index = _indexed(path, stat.st_mtime_ns, stat.st_size)
    rate_hz, stamps, warnings = _placed(index)
    info = StreamInfo("face", "face", rate_hz, CHANNELS, UNIT, index.shape)
    n = len(index.times_s)
    gaps = np.flatnonzero(np.diff(index.times_s) > _JUMP_S) + 1 if stamps is not None else ()
    starts = (0, *(int(at) for at in gaps))
    pictures = RecordedStream(info, n, _Pictures(path, n, index.shape), stamps, None, starts)
    sound, unheard = read_soundtrack(path)
    streams = (pictures,) if sound is None else (pictures, sound)
    return Recording(path.stem, path, streams, warnings=(*warnings, *unheard))


class _Pictures:
    """The items [first, last) of a film as uint8 (time, height, width, 3).

    They are decoded in order only, from the beginning again where need be: a jump in a film lands
    where its coder pleases. The file stays open from one piece to the next.
    """

    def __init__(self, path: Path, n_items: int, shape: tuple[int, int, int]) -> None:
        self._path, self._n, self._shape = path, n_items, shape
        self._film: Any = None
        self._at = 0  # the picture that comes next

    def __call__(self, first: int, last: int) -> Array:
        if self._film is None or first < self._at:
            self._close()
            self._film, self._at = _open(self._path), 0
        out = np.empty((last - first, *self._shape), np.uint8)
        while self._at < last:
            if not self._film.grab():
                raise DataError(
                    f"{self._path}: {self._at} of {self._n} pictures can be decoded; {_CUT_OFF}"
                )
            if self._at >= first:
                self._film.retrieve(out[self._at - first])
            self._at += 1
        if last >= self._n:
            self._close()
        return out

    def _close(self) -> None:
        if self._film is not None:
            self._film.release()
            self._film = None


def _open(path: Path) -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said here, once
    import cv2

    # An absolute path is never taken for a protocol, nor for a pattern of numbered pictures.
    logging = cv2.utils.logging
    told = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    film = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    logging.setLogLevel(told)
    if not film.isOpened():
        raise DataError(f"{path}: not a video that can be read; it is damaged, or of another kind")
    return film


@lru_cache(maxsize=256)
def _indexed(path: Path, mtime_ns: int, size: int) -> _Index:
    """The times and the size of all pictures, as long as the file stays as it is."""
    import cv2

    film = _open(path)
    done, picture = film.read()
    if not done:
        raise DataError(f"{path}: no picture in it can be decoded")
    times_s, going = [0.0], True
    while going:
        times_s.append(film.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        going = film.grab()
    index = _Index(
        np.array(times_s[1:]),
        picture.shape,
        film.get(cv2.CAP_PROP_FPS),
    )
    film.release()
    return index


def _placed(index: _Index) -> tuple[float, tuple[Array, Array] | None, tuple[str, ...]]:
    """(rate in Hz, stamps or None where item k stands at k / rate, warnings)."""
    times_s, n = index.times_s, len(index.times_s)
    told_hz = index.rate_hz if 0 < index.rate_hz <= 1000 else _DEFAULT_HZ
    usual_hz = min(_USUAL_HZ, key=lambda hz: abs(hz - told_hz))
    places = np.arange(n)
    for rate_hz in (usual_hz, told_hz):
        near = abs(rate_hz / told_hz - 1.0) < _ROUNDED
        if near and np.all(np.abs(times_s * rate_hz - places) < 0.5):
            return rate_hz, None, ()
    steps_s = np.diff(times_s)
    if np.any(steps_s <= 0) or not math.isfinite(float(times_s.sum())):
        return told_hz, None, ("its time stamps fall; the pictures are placed evenly",)
    kept_s = steps_s[steps_s <= _JUMP_S]
    rate_hz = 1.0 / float(kept_s.mean()) if len(kept_s) else told_hz
    return rate_hz, (places, times_s), ()
