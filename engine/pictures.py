"""What is shown of a stream: traces as lows and highs, a voice's spectrum, a face with its box."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine.steps.faces import DecodeJpeg
from engine.types import Array, Chunk, Notes, StreamInfo

__all__ = ["Picture", "Spectrogram", "Traces"]

_BINS_HZ = 50.0  # of the lows and highs
_MAX_CHANNELS = 32
_HELD_S = 2.0  # what waits to be shown at most
_COLUMNS_HZ = 25.0
_BANDS = 48
_LOW_HZ, _HIGH_HZ = 80.0, 8000.0
_FLOOR_DB = -100.0
_SIDE_PX = 200
_AROUND = 2.0  # what is cut out around a face, in sides of its box
_JPEG_QUALITY = 70


class _Tail:
    """The newest items of a stream that were not shown yet, (time, channels), without a break."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz, self._room = rate_hz, max(1, math.ceil(_HELD_S * rate_hz))
        self._parts: list[Array] = []
        self._next = (-1, 0)  # segment and index of the item that follows
        self._stamp = (0, 0.0)
        self.n_items = 0

    def put(self, chunk: Chunk, data: Array) -> None:
        """Take `data`, made of the items of `chunk`; what does not follow starts over."""
        if (chunk.segment, chunk.first_index) != self._next:
            self._parts.clear()
            self.n_items = 0
        self._next = (chunk.segment, chunk.first_index + len(chunk))
        if chunk.stamps:
            self._stamp = chunk.stamps[-1]
        self._parts.append(data)
        self.n_items += len(data)
        while self.n_items - len(self._parts[0]) >= self._room:
            self.n_items -= len(self._parts.pop(0))

    def take(self, n: int, used: int) -> tuple[Array, float]:
        """The oldest `n` items, of which `used` are done with, and when the last of those ended."""
        whole = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        self._parts = [whole[used:]]
        self.n_items = len(whole) - used
        index, time_s = self._stamp
        end = self._next[1] - self.n_items
        return whole[:n], time_s + (end - index) / self._rate_hz


class Traces:
    """Lows and highs of the first channels of a signal, so that no spike is lost to decimation."""

    def __init__(self, info: StreamInfo) -> None:
        assert info.rate_hz is not None
        self.info = info
        self._bin = max(1, round(info.rate_hz / _BINS_HZ))
        self._tail = _Tail(info.rate_hz)

    def take(self, chunk: Chunk) -> None:
        """Look at more items."""
        self._tail.put(chunk, chunk.data[:, :_MAX_CHANNELS])

    def told(self, notes: Notes) -> dict[str, Any] | None:
        """All whole bins since the last call; None if there is none."""
        n = self._tail.n_items // self._bin
        if n == 0:
            return None
        data, end_s = self._tail.take(n * self._bin, n * self._bin)
        bins = data.reshape(n, self._bin, -1)
        return {
            "kind": self.info.kind,
            "unit": self.info.unit,
            "channels": list(self.info.channels[:_MAX_CHANNELS]),
            "n_channels": len(self.info.channels),
            "rate_hz": float(self.info.rate_hz or 0.0) / self._bin,
            "end_s": end_s,
            "low": _short(np.fmin.reduce(bins, axis=1)),
            "high": _short(np.fmax.reduce(bins, axis=1)),
        }


class Spectrogram:
    """The power of a voice over bands of equal width in mel, as levels of 0 to 255."""

    def __init__(self, info: StreamInfo) -> None:
        assert info.rate_hz is not None
        self.info = info
        rate_hz = info.rate_hz
        self._size = max(16, 1 << round(math.log2(0.032 * rate_hz)))
        self._hop = max(1, round(rate_hz / _COLUMNS_HZ))
        self._window = np.hanning(self._size).astype(np.float32)
        self._low_hz, self._high_hz = min(_LOW_HZ, rate_hz / 8), min(_HIGH_HZ, rate_hz / 2)
        edges = np.linspace(_mel(self._low_hz), _mel(self._high_hz), _BANDS + 1)
        bins = 700.0 * np.expm1(edges / 1127.0) * self._size / rate_hz
        self._edges, self._top = bins.astype(int)[:-1], max(1, int(bins[-1]))
        self._tail = _Tail(rate_hz)

    def take(self, chunk: Chunk) -> None:
        """Look at more items."""
        self._tail.put(chunk, chunk.data.mean(axis=1, dtype=np.float32))

    def told(self, notes: Notes) -> dict[str, Any] | None:
        """All whole columns since the last call; None if there is none."""
        n = (self._tail.n_items - self._size) // self._hop + 1
        if n <= 0:
            return None
        data, end_s = self._tail.take((n - 1) * self._hop + self._size, n * self._hop)
        frames = np.lib.stride_tricks.sliding_window_view(data, self._size)[:: self._hop]
        power = np.abs(np.fft.rfft(np.nan_to_num(frames) * self._window)[:, : self._top]) ** 2
        width = np.maximum(np.diff(self._edges, append=self._top), 1)
        bands = np.add.reduceat(power, self._edges, axis=1) / width
        bands /= (self._window.sum() / 2) ** 2  # a sine of full scale: 0 dB
        db = 10.0 * np.log10(np.maximum(bands, 1e-12))
        levels = np.clip(255.0 * (1.0 - db / _FLOOR_DB), 0, 255).astype(np.uint8)
        return {
            "kind": "voice",
            "columns": levels.tobytes(),
            "bands": _BANDS,
            "rate_hz": self.info.rate_hz / self._hop if self.info.rate_hz else 0.0,
            "low_hz": self._low_hz,
            "high_hz": self._high_hz,
            "end_s": end_s,
        }


class Picture:
    """The newest picture of a face, cut out around its box, as a small JPEG file.

    Where no box is known the whole picture is shown, and with `shown` False only the box.
    """

    def __init__(self, info: StreamInfo, shown: bool) -> None:
        self.info, self._shown = info, shown
        self._newest: Any = None
        self._decode = DecodeJpeg(info) if info.unit == "jpeg" else None

    def take(self, chunk: Chunk) -> None:
        """Look at more pictures: the last one counts."""
        if len(chunk):
            self._newest = chunk.data[-1:]

    def told(self, notes: Notes) -> dict[str, Any] | None:
        """The newest picture; None if none came since the last call."""
        items, self._newest = self._newest, None
        if items is None:
            return None
        told: dict[str, Any] = {"kind": "face", "jpeg": None, "width": 0, "height": 0}
        box = _box(notes)
        if not self._shown:
            return told | {"box": box}
        if self._decode is not None:
            items, good, _ = self._decode(items, np.ones(1, bool))
            if not good[0]:
                return told | {"box": None}
        return told | self._drawn(items[0], box)

    def _drawn(self, picture: Array, box: list[float] | None) -> dict[str, Any]:
        import cv2

        if picture.dtype != np.uint8:
            picture = np.clip(np.nan_to_num(picture), 0, 255).astype(np.uint8)
        if picture.shape[2] == 3 and self.info.channels[0][:1] == "r":
            picture = picture[:, :, ::-1]
        left, top, part = _around(picture, box)
        height, width = part.shape[:2]
        scale = min(1.0, _SIDE_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        drawn = {"jpeg": jpeg.tobytes(), "width": size[0], "height": size[1], "box": None}
        if box is not None:
            at = [box[0] - left, box[1] - top, box[2], box[3]]
            drawn["box"] = [round(v * scale, 1) for v in at]
        return drawn


def _box(notes: Notes) -> list[float] | None:
    """The box of the face that is cut out, if the detector noted one."""
    for face in notes.get("faces", ()):
        if face["id"] == notes.get("face"):
            return list(face["box"])
    return None


def _around(picture: Array, box: list[float] | None) -> tuple[int, int, Array]:
    """The square around a box as far as it lies in the picture, and its corner."""
    if box is None:
        return 0, 0, picture
    x, y, width, height = box
    half = _AROUND * max(width, height) / 2
    tall, wide = picture.shape[:2]
    left = int(min(max(0.0, x + width / 2 - half), wide - 1))
    top = int(min(max(0.0, y + height / 2 - half), tall - 1))
    right = max(left + 1, math.ceil(min(wide, x + width / 2 + half)))
    bottom = max(top + 1, math.ceil(min(tall, y + height / 2 + half)))
    return left, top, picture[top:bottom, left:right]


def _mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)


def _short(bins: Array) -> list[list[float]]:
    """(time, channels) as one list per channel, to four digits of the largest."""
    top = float(np.nanmax(np.abs(bins), initial=0.0, where=np.isfinite(bins)))
    digits = 4 - math.ceil(math.log10(top)) if top > 0 else 0
    rounded: list[list[float]] = np.round(bins.astype(np.float64), digits).T.tolist()
    return rounded
