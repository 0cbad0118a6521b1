"""Pictures and sound in files of their own, where a format has no room for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.types import Array, StreamInfo

__all__ = ["Pictures", "Sound"]


class Pictures:
    """The pictures of one stream as numbered files below `folder`, JPEG as they came, else PNG."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._n = 0

    def add(self, info: StreamInfo, pictures: Array) -> Array:
        """Write `pictures` (time, ...); returns their numbers (time, 1) as int32."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self._n
        for picture in pictures:
            self._write(info, picture)
            self._n += 1
        return np.arange(first, self._n, dtype=np.int32)[:, None]

    def _write(self, info: StreamInfo, picture: Any) -> None:
        name = f"{self._n:06d}"
        if isinstance(picture, bytes):
            (self.folder / f"{name}.jpg").write_bytes(picture)
            return
        import cv2

        pixels = np.asarray(picture)
        if pixels.dtype != np.uint8:
            pixels = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
        if info.channels[:1] in (("r",), ("red",)):  # the file's order is blue, green, red
            pixels = pixels[..., ::-1]
        _, coded = cv2.imencode(".png", np.ascontiguousarray(pixels))
        (self.folder / f"{name}.png").write_bytes(coded.tobytes())


class Sound:
    """A voice as one WAV file per segment, 32 bit floats: sample for sample what was recorded."""

    def __init__(self, path: Path, info: StreamInfo) -> None:
        self._path, self._info = path, info
        self._file: Any = None
        self.paths: list[Path] = []

    def begin(self) -> Path:
        """Start the next file; returns its path."""
        import soundfile

        self.close()
        n = len(self.paths)
        path = self._path if n == 0 else self._path.with_stem(f"{self._path.stem}-{n + 1}")
        rate_hz = self._info.rate_hz
        assert rate_hz is not None
        self._file = soundfile.SoundFile(
            path, "w", round(rate_hz), len(self._info.channels), "FLOAT"
        )
        self.paths.append(path)
        return path

    def add(self, data: Array) -> None:
        """Add `data` (time, channels)."""
        self._file.write(data)

    def close(self) -> None:
        """End the last file."""
        if self._file is not None:
            self._file.close()
            self._file = None
