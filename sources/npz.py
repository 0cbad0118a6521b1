"""Recordings in npz files: our own layout, and that of the eegmat data set."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from sources.recording import RecordedStream, Recording

__all__ = ["read_arrays", "read_npz"]

_NEEDED = ("x", "rate_hz", "channels", "kind")
_KINDS = ("eeg", "face", "marker", "physio", "voice")
# All that reading a damaged zip archive was seen to raise; a flipped bit may ask for a password.
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_EEGMAT = frozenset({"x", "scale_uv", "sfreq", "ch"})


def read_npz(path: Path) -> Recording:
    """Read `x (time, ...)`, `rate_hz`, `channels`, `kind`, and `unit`, `t`, `label` if there.

    Also reads `x (channels, time)`, `scale_uv`, `sfreq`, `ch`. Never unpickles.
    """
    arrays = read_arrays(path)
    if set(arrays) >= _EEGMAT:
        return Recording(path.stem, path, (_eegmat(path, arrays),))
    missing = [key for key in _NEEDED if key not in arrays]
    if missing:
        raise DataError(
            f"{path}: no {', '.join(missing)} in it; there are {', '.join(arrays) or 'no arrays'}, "
            f"needed are {', '.join(_NEEDED)}"
        )
    x = _numbers(path, "x", arrays["x"])
    channels, rate_hz = _words(path, "channels", arrays["channels"]), _rate(path, arrays["rate_hz"])
    if x.ndim < 2:
        raise DataError(f"{path}: x has the shape {x.shape}; need (time, channels) or more axes")
    if x.ndim == 2 and len(channels) != x.shape[1]:
        raise DataError(
            f"{path}: channels has {len(channels)} names, x {x.shape} has {x.shape[1]} channels"
        )
    if len(x) == 0:
        raise DataError(f"{path}: x {x.shape} holds no items")
    kind = _word(path, "kind", arrays["kind"])
    if kind not in _KINDS:
        raise DataError(f"{path}: kind is '{kind}'; need one of {', '.join(_KINDS)}")
    default = "uV" if kind == "eeg" else ""
    unit = _word(path, "unit", arrays["unit"]) if "unit" in arrays else default
    stream = RecordedStream(
        StreamInfo(kind, kind, rate_hz, channels, unit, x.shape[1:]),
        len(x),
        lambda first, last: x[first:last].astype(np.float32),
        _stamps(path, arrays["t"], len(x)) if "t" in arrays else None,
        _truth(path, arrays["label"], len(x)) if "label" in arrays else None,
    )
    return Recording(path.stem, path, (stream,))


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an npz file; never unpickles. Raises DataError for a damaged one."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an npz file (not a zip archive, or its end is missing)")
    arrays: dict[str, Array] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                try:
                    arrays[key] = np.asarray(archive[key])
                except ValueError as error:
                    if "pickle" not in str(error).lower():
                        raise
                    raise DataError(
                        f"{path}: {key} holds Python objects, which are never unpickled; "
                        "need numbers or text"
                    ) from error
    except _DAMAGED as error:
        raise DataError(f"{path}: a damaged npz file: {error}") from error
    return arrays


def _eegmat(path: Path, arrays: dict[str, Array]) -> RecordedStream:
    x = _numbers(path, "x", arrays["x"])
    channels, rate_hz = _words(path, "ch", arrays["ch"]), _rate(path, arrays["sfreq"], "sfreq")
    scale = _numbers(path, "scale_uv", arrays["scale_uv"])
    if x.ndim != 2 or len(x) != len(channels) or scale.size != 1:
        raise DataError(
            f"{path}: x {x.shape} with {len(channels)} names in ch and {scale.size} scales; "
            "need (channels, time), a name per channel, one scale"
        )
    if x.shape[1] == 0:
        raise DataError(f"{path}: x {x.shape} holds no items")
    scale_uv = np.float32(scale.item())
    return RecordedStream(
        StreamInfo("eeg", "eeg", rate_hz, channels, "uV", (len(channels),)),
        x.shape[1],
        lambda first, last: x[:, first:last].T.astype(np.float32, order="C") * scale_uv,
    )


def _numbers(path: Path, key: str, value: Array) -> Array:
    if value.dtype.kind not in "fiu":
        raise DataError(f"{path}: {key} is of type {value.dtype}; need real numbers")
    return value


def _rate(path: Path, value: Array, key: str = "rate_hz") -> float:
    rates = _numbers(path, key, value)
    if rates.size != 1 or not 0 < rates.item() < np.inf:
        raise DataError(f"{path}: {key} is {rates.tolist()}; need one number above 0")
    return float(rates.item())


def _words(path: Path, key: str, value: Array) -> tuple[str, ...]:
    if value.dtype.kind not in "US" or value.ndim != 1:
        raise DataError(f"{path}: {key} is {value.dtype} {value.shape}; need a list of names")
    return tuple(str(word) for word in value.astype(str))


def _word(path: Path, key: str, value: Array) -> str:
    if value.dtype.kind not in "US" or value.size != 1:
        raise DataError(f"{path}: {key} is {value.dtype} {value.shape}; need one word")
    return str(value.astype(str).item())


def _stamps(path: Path, value: Array, n_items: int) -> tuple[Array, Array]:
    times_s = _numbers(path, "t", value).astype(np.float64)
    if times_s.shape != (n_items,):
        raise DataError(f"{path}: t has the shape {times_s.shape}; need one time for each of the "
                        f"{n_items} items of x")  # fmt: skip
    bad = np.flatnonzero(~np.isfinite(times_s) | (np.diff(times_s, prepend=times_s[0]) < 0))
    if len(bad):
        raise DataError(f"{path}: t[{bad[0]}] is {times_s[bad[0]]:g}; need seconds that never fall")
    return np.arange(n_items), times_s


def _truth(path: Path, value: Array, n_items: int) -> tuple[tuple[int, str | None], ...]:
    if value.dtype.kind not in "US" or value.shape not in ((), (1,), (n_items,)):
        raise DataError(
            f"{path}: label is {value.dtype} {value.shape}; need one word, or one for each of the "
            f"{n_items} items ('' where it is unknown)"
        )
    words = np.atleast_1d(value.astype(str))
    turns = [0, *(np.flatnonzero(words[1:] != words[:-1]) + 1).tolist()]
    return tuple((at, str(words[at]) or None) for at in turns)
