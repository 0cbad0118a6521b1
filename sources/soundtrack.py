"""The sound of video files, decoded from disk in order, where PyAV is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.audio import UNIT, channel_names
from sources.recording import RecordedStream

__all__ = ["read_soundtrack"]


def read_soundtrack(path: Path) -> tuple[RecordedStream | None, tuple[str, ...]]:
    """(the first sound track as the stream `voice`, or None; warnings).

    Its time counts from the first picture. OpenCV reads no sound; without PyAV it is left out.
    """
    try:
        import av
    except ImportError:
        return None, ("its sound, if it has any, is left out: that needs pip install vagus[video]",)
    try:
        with av.open(str(path.resolve())) as film:
            if not film.streams.audio:
                return None, ()
            track = film.streams.audio[0]
            rate_hz, n_channels = float(track.rate), int(track.channels)
            first_s, n = _measured(film, track)
    except (av.error.FFmpegError, ValueError) as error:
        return None, (f"its sound cannot be decoded: {error}",)
    if n == 0:
        return None, ("its sound track is empty",)
    info = StreamInfo("voice", "voice", rate_hz, channel_names(n_channels), UNIT, (n_channels,))
    stamps = (np.array([0]), np.array([first_s])) if first_s else None
    return RecordedStream(info, n, _Samples(path, n, n_channels), stamps), ()


def _measured(film: Any, track: Any) -> tuple[float, int]:
    """(when the sound begins, in seconds after the first picture; how many samples it has)."""
    first_s, n = None, 0
    for frame in film.decode(track):
        if first_s is None:
            first_s = float(frame.time or 0.0)
        n += frame.samples
    pictures = film.streams.video
    begin_s = float((pictures[0].start_time or 0) * pictures[0].time_base) if pictures else 0.0
    return (first_s or 0.0) - begin_s, n


class _Samples:
    """The items [first, last) of a sound track as float32 (time, channels), in order only."""

    def __init__(self, path: Path, n_items: int, n_channels: int) -> None:
        self._path, self._n, self._n_channels = path, n_items, n_channels
        self._pieces: Iterator[Array] | None = None
        self._held = np.zeros((0, n_channels), np.float32)  # decoded, from item `_at` on
        self._at = 0

    def __call__(self, first: int, last: int) -> Array:
        if self._pieces is None or first < self._at:
            self._pieces = _decoded(self._path)
            self._held, self._at = self._held[:0], 0
        parts = []
        while self._at < last:
            if not len(self._held):
                self._held = next(self._pieces, self._held)
                if not len(self._held):
                    raise DataError(
                        f"{self._path}: {self._at} of {self._n} samples of sound can be decoded"
                    )
            n = min(len(self._held), (first if self._at < first else last) - self._at)
            if self._at >= first:
                parts.append(self._held[:n])
            self._held, self._at = self._held[n:], self._at + n
        if last >= self._n:
            self._pieces = None
        return np.concatenate(parts) if parts else self._held[:0].copy()


def _decoded(path: Path) -> Iterator[Array]:
    """The sound piece by piece, float32 (time, channels), full scale being 1."""
    import av

    with av.open(str(path.resolve())) as film:
        to_float = av.AudioResampler(format="fltp")  # neither rate nor channels change
        for frame in film.decode(film.streams.audio[0]):
            for piece in to_float.resample(frame):
                if piece.samples:
                    yield np.ascontiguousarray(piece.to_ndarray().T, np.float32)
