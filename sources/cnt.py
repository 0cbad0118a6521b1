"""Recordings in Neuroscan's continuous files (.cnt) of 32-bit samples, read piece by piece.

Layout: the SETUP and ELECTLOC structures of Scan 4, as P. Bourke's notes on EEG formats list them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.recording import RecordedStream, Recording

__all__ = ["read_cnt"]

_HEADER_BYTES, _CHANNEL_BYTES = 900, 75
_DATE, _N_CHANNELS, _RATE, _N_SAMPLES = 225, 370, 376, 864
_EVENT_TABLE, _BLOCK_BYTES = 886, 894
_NAME_BYTES, _BASELINE, _SENSITIVITY, _CALIBRATION = 10, 47, 59, 71  # within a channel
_SCALE = 204.8
_OFFSETS_UP_TO = 2**31  # beyond, the header's 32-bit offsets are wrong
_TABLE_HEAD = struct.Struct("<Bii")  # kind of events, bytes of them, offset
_EVENT_BYTES = {1: 8, 2: 19, 3: 19}
_EVENT = struct.Struct("<HBBi")  # stimulus, key, response pad, place: what all kinds begin with


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a header says: where the samples are, and what turns them into microvolts."""

    channels: tuple[str, ...]
    rate_hz: float
    n_samples: int
    baseline: Array  # (channels,) float64, in steps of the converter
    gain: Array  # (channels,) float64, uV per step
    start_wall: float | None

    @property
    def data_at(self) -> int:
        return _HEADER_BYTES + _CHANNEL_BYTES * len(self.channels)

    @property
    def sample_bytes(self) -> int:
        return 4 * len(self.channels)


def read_cnt(path: Path) -> Recording:
    """All channels as one stream of microvolts, and the events as markers.

    The start time is taken as UTC and as month/day/year, since the format has neither. Raises
    DataError for 16-bit and blocked files, and for what was cut off.
    """
    layout = _layout(path)
    n = len(layout.channels)

    def read(first: int, last: int) -> Array:
        at = layout.data_at + first * layout.sample_bytes
        steps = np.fromfile(path, "<i4", (last - first) * n, offset=at).reshape(-1, n)
        return ((steps - layout.baseline) * layout.gain).astype(np.float32)

    info = StreamInfo("eeg", "eeg", layout.rate_hz, layout.channels, "uV", (n,))
    stream = RecordedStream(info, layout.n_samples, read)
    markers = tuple(_markers(path, layout))
    return Recording(path.stem, path, (stream,), markers, layout.start_wall)


def _layout(path: Path) -> _Layout:
    """Read the header and check it against the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            raise DataError(f"{path}: not a Neuroscan file (shorter than its header)")
        n, rate_hz = (struct.unpack_from("<H", head, at)[0] for at in (_N_CHANNELS, _RATE))
        if not n or not rate_hz:
            raise DataError(f"{path}: not a Neuroscan file ({n} channels at {rate_hz} Hz)")
        rest = file.read(n * _CHANNEL_BYTES)
    if len(rest) < n * _CHANNEL_BYTES:
        raise DataError(f"{path}: the header promises {n} channels; the file ends among them")
    if struct.unpack_from("<i", head, _BLOCK_BYTES)[0] > 1:
        raise DataError(f"{path}: its samples are in blocks per channel; need one after the other")
    parts = [rest[j * _CHANNEL_BYTES : (j + 1) * _CHANNEL_BYTES] for j in range(n)]
    baseline = [struct.unpack_from("<h", part, _BASELINE)[0] for part in parts]
    gain = [_float(part, _SENSITIVITY) * _float(part, _CALIBRATION) / _SCALE for part in parts]
    if not all(np.isfinite(gain)):
        raise DataError(f"{path}: a damaged header: a sensitivity or calibration is no number")
    return _Layout(
        tuple(_text(part[:_NAME_BYTES]) for part in parts),
        float(rate_hz),
        _n_samples(path, head, n, size),
        np.array(baseline, np.float64),
        np.array(gain, np.float64),
        _start_wall(head),
    )


def _n_samples(path: Path, head: bytes, n_channels: int, size: int) -> int:
    """How many samples there are: up to the event table, which has to fit the header's count."""
    data_at = _HEADER_BYTES + _CHANNEL_BYTES * n_channels
    promised = int(struct.unpack_from("<I", head, _N_SAMPLES)[0])
    if size < _OFFSETS_UP_TO:
        n_bytes = int(struct.unpack_from("<i", head, _EVENT_TABLE)[0]) - data_at
        if n_bytes == 2 * n_channels * promised and promised > 0:
            raise DataError(f"{path}: its samples have 16 bits; files of 32 bits are read")
    else:
        n_bytes = 4 * n_channels * promised
    there, odd_bytes = divmod(n_bytes, 4 * n_channels)
    if there < 1 or odd_bytes or promised not in (0, there) or data_at + n_bytes > size:
        raise DataError(
            f"{path}: the header promises {promised} samples of {n_channels} channels and "
            f"{n_bytes} bytes for them; the file has {size - data_at}; it was cut off or changed"
        )
    return there


def _markers(path: Path, layout: _Layout) -> Iterator[tuple[float, str]]:
    """(seconds, value) of each event: its stimulus, or which key or response was pressed."""
    table_at = layout.data_at + layout.n_samples * layout.sample_bytes
    with path.open("rb") as file:
        file.seek(table_at)
        head = file.read(_TABLE_HEAD.size)
        if len(head) < _TABLE_HEAD.size:  # a file without a table has no events
            return
        kind, n_bytes, _ = _TABLE_HEAD.unpack(head)
        length = _EVENT_BYTES.get(kind)
        left = path.stat().st_size - file.seek(0, os.SEEK_CUR)
        if length is None or not 0 <= n_bytes <= left:
            raise DataError(f"{path}: a damaged event table: kind {kind}, {n_bytes} bytes of "
                            f"{left}")  # fmt: skip
        table = file.read(n_bytes)
    for at in range(0, n_bytes - length + 1, length):
        stimulus, key, pad, place = _EVENT.unpack_from(table, at)
        item = place if kind == 3 else (place - layout.data_at) // layout.sample_bytes
        pressed = f"key {key}" if key else f"response {pad & 0x0F}" if pad & 0x0F else ""
        yield min(max(item, 0), layout.n_samples - 1) / layout.rate_hz, pressed or str(stimulus)


def _start_wall(head: bytes) -> float | None:
    text = f"{_text(head[_DATE : _DATE + 10])} {_text(head[_DATE + 10 : _DATE + 22])}"
    for form in ("%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:  # made anonymous, or another form
            continue
    return None


def _float(part: bytes, at: int) -> float:
    return float(struct.unpack_from("<f", part, at)[0])


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("latin-1").strip()
