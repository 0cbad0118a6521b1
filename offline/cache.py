"""Cut windows on disk: a folder per set, found by all that it depends on, whole or not there.

A set is `manifest.json` and one npy file per array, which is read as it lies (memory-mapped). It is
made in a folder beside and renamed when it is complete, so that a kill at any moment leaves either
nothing or a whole set. On opening the sizes and the edges of all files are held against the
manifest; a set that does not fit is cut again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import scipy

import engine
import offline
import sources
from engine.bundle import InputSpec
from engine.errors import DataError
from engine.types import Array
from offline.calibration import Calibration, check_calibration, in_turn
from offline.datasets import LabelledRecording
from offline.windows import Cut, WindowSet, kept, ticks

__all__ = ["cached_cut", "open_windows"]

_MANIFEST = "manifest.json"
_EDGE = 1 << 16  # bytes at either end of a file that are looked at on opening
_NO_CUTTER = ("networks", "config", "log")  # parts of the engine that windows do not pass through
_CUTTER = ("calibration.py", "datasets", "labels.py", "readers.py", "windows.py")  # of offline
Progress = Callable[[int, int], None]  # recordings done, of all


def cached_cut(
    recordings: Sequence[LabelledRecording],
    inputs: Mapping[str, InputSpec],
    hop_s: float,
    folder: Path,
    *,
    labels: Sequence[str],
    skip_s: float = 0.0,
    filled: float = 0.0,
    calibrate_s: float | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The folder below `folder` with the windows of `recordings`, cut now if it is not there.

    They are those from which a session would predict, so partly filled ones are among them, as far
    as their label is one of `labels`; see `offline.windows.kept`, and `cut` for `calibrate_s`.
    Another file, setting or version of the code that cuts gives another folder. Raises DataError
    if there is no window.
    """
    check_calibration(inputs, calibrate_s)
    about = {
        "recordings": [_identity(recording) for recording in recordings],
        "inputs": {name: msgspec.to_builtins(spec) for name, spec in inputs.items()},
        "cut": [hop_s, list(labels), skip_s, filled, calibrate_s],
        "code": _code(),
    }
    text = json.dumps(about, sort_keys=True, default=str)
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:20]
    if _whole(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    made = folder / f".{path.name}-{os.getpid()}"
    made.mkdir()
    try:
        window_s = max(spec.window_s for spec in inputs.values())

        def cuts(recording: LabelledRecording, calibration: Calibration | None) -> Iterator[Cut]:
            rows = ticks(recording, inputs, hop_s, calibration=calibration)
            for row in kept(rows, window_s, skip_s, filled, full=False):
                if row.label in labels:
                    yield row

        _write(made, list(in_turn(recordings, calibrate_s)), cuts, progress)
        if path.exists() and not _whole(path):
            shutil.rmtree(path)  # damaged
        if not path.exists():  # else another process was faster
            os.rename(made, path)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return path


def open_windows(path: Path) -> WindowSet:
    """The set at `path`, memory-mapped; what is written into its arrays stays in memory."""
    told = json.loads((path / _MANIFEST).read_text())
    arrays = {file: _mapped(path / file, told["files"][file]) for file in told["files"]}
    labels, whose = np.array(told["labels"]), np.array(told["recordings"])  # (n, 2): uid, subject
    recording = np.asarray(arrays["recording.npy"])
    return WindowSet(
        {name: arrays[f"inputs.{name}.npy"] for name in told["inputs"]},
        {name: arrays[f"valid.{name}.npy"] for name in told["inputs"]},
        labels[np.asarray(arrays["label.npy"])],
        whose[recording, 1],
        whose[recording, 0],
        np.array(arrays["t.npy"]),
    )


class _Growing:
    """An npy file that rows are appended to; its head is written again when all are there."""

    def __init__(self, path: Path, first: Array) -> None:
        self._file: BinaryIO = path.open("wb")
        self._dtype, self._shape, self.n = first.dtype, first.shape, 0
        self._head()

    def append(self, row: Array) -> None:
        if row.shape != self._shape or row.dtype != self._dtype:
            raise DataError(
                f"windows of different shapes: {self._shape} {self._dtype}, then {row.shape} "
                f"{row.dtype}; the recordings do not fit the same input"
            )
        self._file.write(np.ascontiguousarray(row).tobytes())
        self.n += 1

    def close(self) -> None:
        self._file.seek(0)
        self._head()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _head(self) -> None:
        head = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.n, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, head)  # numpy leaves room for n to grow


def _write(
    folder: Path,
    recordings: Sequence[tuple[LabelledRecording, Calibration | None]],
    cuts: Callable[[LabelledRecording, Calibration | None], Iterable[Cut]],
    progress: Progress,
) -> None:
    files: dict[str, _Growing] = {}
    labels: dict[str, int] = {}
    names: tuple[str, ...] = ()
    for number, (recording, calibration) in enumerate(recordings):
        for row in cuts(recording, calibration):
            names = tuple(row.inputs)
            values = {
                **{f"inputs.{name}.npy": x for name, x in row.inputs.items()},
                **{f"valid.{name}.npy": mask for name, mask in row.valid.items()},
                "label.npy": np.array(labels.setdefault(row.label, len(labels)), np.int32),
                "recording.npy": np.array(number, np.int32),
                "t.npy": np.array(row.t, np.float64),
            }
            for name, value in values.items():
                if name not in files:
                    files[name] = _Growing(folder / name, value)
                files[name].append(value)
        progress(number + 1, len(recordings))
    for file in files.values():
        file.close()
    if not files:
        raise DataError("the recordings gave no window; are they shorter than min_filled_s?")
    told = {
        "inputs": names,
        "labels": list(labels),
        "recordings": [[recording.uid, recording.subject] for recording, _ in recordings],
        "files": {name: _edges(folder / name) for name in files},
    }
    text = json.dumps(told)
    with (folder / _MANIFEST).open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _whole(path: Path) -> bool:
    """Whether there is a set whose files are as its manifest says."""
    try:
        told = json.loads((path / _MANIFEST).read_text())
        return all(_edges(path / name) == edges for name, edges in told["files"].items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _edges(path: Path) -> list[int]:
    """[size, checksum of the first and the last 64 KiB] of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(_EDGE)
        file.seek(max(0, size - _EDGE))
        return [size, zlib.crc32(file.read(_EDGE), zlib.crc32(begin))]


def _mapped(path: Path, edges: Sequence[int]) -> Array:
    if path.stat().st_size != edges[0]:
        raise DataError(f"{path}: has {path.stat().st_size} bytes; its manifest says {edges[0]}")
    array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def _identity(recording: LabelledRecording) -> list[Any]:
    """What tells a recording from every other, and its file from another version of it."""
    path = recording.path
    stat = path.stat() if path.exists() else None
    file = [str(path), stat and stat.st_size, stat and stat.st_mtime_ns]
    return [recording.uid, recording.label, recording.part, dict(recording.options), *file]


def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left unfinished."""
    for left in folder.glob(".*-*"):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


@cache
def _code() -> str:
    """A hash of the code that windows pass through, and of what it computes with."""
    digest = hashlib.sha256(f"{np.__version__} {scipy.__version__}".encode())
    for package in (engine, sources, offline):
        root = Path(package.__path__[0])
        for file in sorted(root.rglob("*.py")):
            first = file.relative_to(root).parts[0]
            cuts = first not in _NO_CUTTER
            if package is offline:
                cuts = first in _CUTTER
            if cuts:
                digest.update(file.read_bytes())
    return digest.hexdigest()
