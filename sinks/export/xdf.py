"""A recording as XDF: each stream as its device gave it, with its clock's offsets beside it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from engine.types import Array, Chunk, Event, Marker, Prediction, StreamInfo
from sinks.export.media import Pictures
from sinks.export.recorded import Recorded
from sinks.export.xdf_file import XdfChannel, XdfWriter

__all__ = ["xdf"]

_TYPES = {"eeg": "EEG", "physio": "Physio", "voice": "Audio", "face": "Video", "marker": "Markers"}
_UNITS = {"uV": "microvolts", "mV": "millivolts", "V": "volts", "uS": "microsiemens",
          "degC": "celsius", "fs": "normalized"}  # fmt: skip
_DIMENSIONS = ("valence", "arousal", "dominance")
_OFFSET_EVERY_S = 5.0
_APART_S = 1.0  # two offsets at one time are of no use to a reader


def xdf(recorded: Recorded, path: Path) -> list[Path]:
    """Write `recorded` to `path`; returns what was written.

    Signals keep every sample and every stamp of the device's own clock; clock offsets lead from
    there to the engine's clock, on which predictions, markers and events stand. Pictures become
    files in a folder beside, and a stream of their numbers.
    """
    with XdfWriter(path, recorded.header.started_wall) as file:
        signals: dict[str, _Signal] = {}
        messages = _Messages(file, recorded)
        pictures: dict[str, Pictures] = {}
        for item in recorded.items():
            if not isinstance(item, tuple):
                if not (isinstance(item, Marker) and item.stream in signals):  # it stands there
                    messages.add(item)
                continue
            info, chunk = item
            if info.name not in signals:
                signals[info.name] = _Signal(file, recorded, info, chunk.data.dtype)
            data = chunk.data
            if info.kind == "face":
                folder = path.with_name(f"{path.stem}_{info.name}")
                data = pictures.setdefault(info.name, Pictures(folder)).add(info, data)
            signals[info.name].add(chunk, data)
        for signal in signals.values():
            signal.end()
        messages.end()
    return [path, *(p.folder for p in pictures.values())]


class _Signal:
    """One stream of a device: its samples, and what its clock is off."""

    def __init__(
        self, file: XdfWriter, recorded: Recorded, info: StreamInfo, dtype: np.dtype[np.generic]
    ) -> None:
        self._file, self._recorded, self._info = file, recorded, info
        channels = [XdfChannel(c, _UNITS.get(info.unit, info.unit)) for c in info.channels]
        if info.kind == "face":
            channels, dtype = [XdfChannel("picture", "number")], np.dtype(np.int32)
        kind = _TYPES.get(info.kind, info.kind)
        rate_hz = None if info.kind == "face" else info.rate_hz  # numbers are no signal
        self._number = file.stream(info.name, kind, rate_hz, dtype, channels)
        self._anchor: tuple[int, int, float] | None = None  # segment, index, own stamp
        self._offset_s: float | None = None  # the last one known
        self._told_s = -math.inf  # when, by the own clock, the last one was written

    def add(self, chunk: Chunk, data: Array) -> None:
        stamps = {i - chunk.first_index: t - chunk.offset_s for i, t in chunk.stamps}
        if 0 not in stamps and (first_s := self._first(chunk, stamps)) is not None:
            stamps[0] = first_s
        if 0 not in stamps:
            self._recorded.warn(f"{self._info.name}: items before its first stamp have no time")
            return
        if self._info.kind == "face" and self._info.rate_hz is not None:
            stamps = {row: self._at(stamps, row) for row in range(len(data))}
        if self._anchor is not None and chunk.segment != self._anchor[0]:
            self.end()  # another connection may have another clock
            self._told_s = -math.inf
        self._file.samples(self._number, data, stamps)
        last = max(stamps)
        self._anchor = chunk.segment, chunk.first_index + last, stamps[last]
        self._compare(stamps[0], chunk.offset_s)

    def end(self) -> None:
        """The last offset, so that the clock is known up to the last sample."""
        if self._offset_s is not None and self._anchor is not None:
            at_s = max(self._anchor[2], self._told_s + _APART_S)
            self._file.offset(self._number, at_s, self._offset_s)

    def _first(self, chunk: Chunk, stamps: dict[int, float]) -> float | None:
        """The own stamp of a chunk's first item, from the last one known or the next."""
        rate_hz = self._info.rate_hz
        if rate_hz is None:
            return None
        if self._anchor is not None and self._anchor[0] == chunk.segment:
            _, index, stamp_s = self._anchor
            return stamp_s + (chunk.first_index - index) / rate_hz
        if not stamps:
            return None
        row = min(stamps)
        return stamps[row] - row / rate_hz

    def _at(self, stamps: dict[int, float], row: int) -> float:
        """The own stamp of any row, from the last one that has one."""
        assert self._info.rate_hz is not None
        last = max(k for k in stamps if k <= row)
        return stamps[last] + (row - last) / self._info.rate_hz

    def _compare(self, at_s: float, offset_s: float) -> None:
        moved = self._offset_s != offset_s or self._told_s == -math.inf
        self._offset_s = offset_s
        if moved and not 0 <= at_s - self._told_s < _OFFSET_EVERY_S:
            self._file.offset(self._number, at_s, offset_s)
            self._told_s = at_s


class _Messages:
    """Predictions, events and each stream of markers, on the engine's clock."""

    def __init__(self, file: XdfWriter, recorded: Recorded) -> None:
        self._file, self._numbers = file, dict[str, int]()
        self._last_s: dict[str, float] = {}
        self._labels = recorded.labels()
        self._name = f"vagus.{recorded.header.session}"

    def add(self, message: Prediction | Event | Marker) -> None:
        if isinstance(message, Prediction):
            self._put(
                self._name, "Emotion", np.dtype(np.float64), _row(message, self._labels), message.t
            )
        elif isinstance(message, Event):
            text = f"{message.code} {message.stream or ''}".strip()
            self._text(f"{self._name}.events", text, message.t)
        else:
            self._text(message.stream, message.value, message.t)

    def end(self) -> None:
        for name, at_s in self._last_s.items():
            self._file.offset(self._numbers[name], at_s + _APART_S, 0.0)

    def _text(self, name: str, text: str, t: float) -> None:
        row = np.empty((1, 1), object)
        row[0, 0] = text
        self._put(name, "Markers", np.dtype(object), row, t)

    def _put(self, name: str, kind: str, dtype: np.dtype[np.generic], row: Array, t: float) -> None:
        if name not in self._numbers:
            channels = [XdfChannel("marker")]
            if kind == "Emotion":
                channels = [XdfChannel(x, "probability", "Probability") for x in self._labels]
                channels += [XdfChannel(d, "normalized", d.capitalize()) for d in _DIMENSIONS]
                channels += [XdfChannel("confidence", "probability", "Confidence")]
                channels += [XdfChannel("latency_ms", "ms", "Latency")]
            self._numbers[name] = self._file.stream(name, kind, None, dtype, channels)
            self._file.offset(self._numbers[name], t, 0.0)
        self._file.samples(self._numbers[name], row, {0: t})
        self._last_s[name] = t


def _row(message: Prediction, labels: tuple[str, ...]) -> Array:
    p, dimensions = message.probabilities or {}, message.dimensions or {}
    values = [p.get(label, math.nan) for label in labels]
    values += [dimensions.get(name, math.nan) for name in _DIMENSIONS]
    values.append(math.nan if message.confidence is None else message.confidence)
    return np.array([[*values, message.latency_ms.get("total", math.nan)]])
