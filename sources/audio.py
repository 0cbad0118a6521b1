"""Recordings in WAV, FLAC, Ogg and MP3 files, decoded from disk piece by piece."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import soundfile

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.recording import RecordedStream, Recording

__all__ = ["UNIT", "channel_names", "read_audio"]

UNIT = "fs"  # full scale: the loudest that the file's numbers can say is 1
_BLOCK = 1 << 16  # samples decoded at once where they are passed over
_UNKNOWN_BYTES = (0, 0xFFFFFFFF)  # what a WAV says that was written into a pipe
_UNKNOWN_FRAMES = 1 << 60  # libsndfile's count where the file does not tell is beyond this
_LOSSY = ("MP3", "OGG")
_OGG_PAGE = 1 << 16  # bytes; a page is never longer
_OGG_HEADER = 27  # bytes, the last of them the number of lengths that follow
_CUT_OFF = "the file was cut off or changed"


def read_audio(path: Path) -> Recording:
    """Read a file of any rate and number of channels as the stream `voice`, in full scale.

    Two channels are `left` and `right`, one is `mono`, more are `1`, `2`, and so on.
    """
    with _open(path) as file:
        rate_hz, n, n_channels, form = file.samplerate, file.frames, file.channels, file.format
    if n > _UNKNOWN_FRAMES:
        raise DataError(f"{path}: does not say how many samples it has; convert it once more")
    if n == 0:
        raise DataError(f"{path}: holds no samples{_shortfall(path, form) and f'; {_CUT_OFF}'}")
    samples = _Samples(path, n, seeks=form not in _LOSSY)
    why = _shortfall(path, form)
    if why:
        raise DataError(f"{path}: {why}; there are {n} samples ({n / rate_hz:g} s); {_CUT_OFF}")
    if form == "FLAC":
        samples(n - 1, n)  # what its header promises must be there
    names = channel_names(n_channels)
    info = StreamInfo("voice", "voice", float(rate_hz), names, UNIT, (n_channels,))
    return Recording(path.stem, path, (RecordedStream(info, n, samples),))


def channel_names(n_channels: int) -> tuple[str, ...]:
    """What the channels of a sound are called."""
    several = tuple(str(k + 1) for k in range(n_channels))
    return {1: ("mono",), 2: ("left", "right")}.get(n_channels, several)


class _Samples:
    """The items [first, last) of a file as float32 (time, channels).

    The file stays open from one piece to the next, and closes behind its last. A lossy file is
    decoded in order only, from its beginning again where need be: what a lossy decoder gives
    behind a jump may depend on the jump.
    """

    def __init__(self, path: Path, n_items: int, seeks: bool) -> None:
        self._path, self._n, self._seeks = path, n_items, seeks
        self._file: soundfile.SoundFile | None = None
        self._at = 0  # where the file stands

    def __call__(self, first: int, last: int) -> Array:
        try:
            x = self._read(first, last)
        except soundfile.LibsndfileError as error:
            raise DataError(
                f"{self._path}: cannot be decoded at sample {first} of {self._n}; {_CUT_OFF}"
            ) from error
        if len(x) < last - first:
            raise DataError(
                f"{self._path}: promises {self._n} samples; there are {first + len(x)}; {_CUT_OFF}"
            )
        return x

    def _read(self, first: int, last: int) -> Array:
        if self._file is None or (first < self._at and not self._seeks):
            self._close()
            self._file, self._at = _open(self._path), 0
        if first != self._at and self._seeks:
            self._at = self._file.seek(first)
        while self._at < first:
            skipped = len(self._file.read(min(_BLOCK, first - self._at)))
            if not skipped:
                break
            self._at += skipped
        x: Array = self._file.read(last - first, dtype="float32", always_2d=True)
        self._at += len(x)
        if last >= self._n or len(x) < last - first:
            self._close()
        return x

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(path: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless, by its name
        why = getattr(error, "error_string", "") or "its header is damaged"
        raise DataError(f"{path}: not an audio file that can be read: {why}") from error


def _shortfall(path: Path, form: str) -> str:
    """What a file says of its own length and does not hold, or nothing.

    libsndfile takes a shorter WAV or Ogg file for what is there.
    """
    with path.open("rb") as file:
        if form in ("WAV", "WAVEX"):
            return _wav_shortfall(file, path.stat().st_size)
        if form == "OGG":
            return _ogg_shortfall(file, path.stat().st_size)
    return ""


def _wav_shortfall(file: BinaryIO, n_bytes: int) -> str:
    """Walks the RIFF chunks up to the samples: (id, length, content, padded to even)."""
    order = ">" if file.read(12)[:4] == b"RIFX" else "<"
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        if name == b"data":
            there = n_bytes - file.tell()
            short = length not in _UNKNOWN_BYTES and there < length
            return f"the header promises {length} bytes, there are {there}" if short else ""
        file.seek(length + length % 2, 1)
    return ""


def _ogg_shortfall(file: BinaryIO, n_bytes: int) -> str:
    """The last page of a whole stream is marked as such, and whole (RFC 3533)."""
    file.seek(max(0, n_bytes - _OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    ended = len(page) > _OGG_HEADER and page[5] & 4
    whole = ended and len(page) >= _OGG_HEADER + page[26] + sum(page[27 : 27 + page[26]])
    return "" if whole else "its end is missing"
