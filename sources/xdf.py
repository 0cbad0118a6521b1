"""XDF files, as LabRecorder writes them: streams on one clock, clock resets, string markers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError, ResourceError
from engine.types import Array, StreamInfo
from sources.lsl.streams import KINDS, UNITS, USUAL_UNIT
from sources.recording import RecordedStream, Recording

__all__ = ["read_xdf"]

_MAGIC = b"XDF:"
_STAMP_S = 0.25
_OFF = 0.01  # from here on the measured rate counts, not the one that was declared
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def read_xdf(path: Path) -> Recording:
    """Read an XDF file the way pyxdf does: clocks synchronised, stamps without jitter.

    Numeric streams with a rate become streams named by their kind where that is unambiguous, else
    by their own names; a stream whose measured rate is over 1 % off takes the measured one. A
    break in the stamps or a clock that was reset begins a new segment. Streams of text become
    markers; empty and irregular numeric streams are named in `warnings`.
    """
    loaded, head = _load(path)
    streams: list[RecordedStream] = []
    markers: list[tuple[float, str]] = []
    left_out: list[str] = []
    about = [(_about(one), one) for one in loaded]
    kinds = Counter(told["kind"] for told, one in about if _is_signal(one))
    for told, one in about:
        times_s = np.asarray(one["time_stamps"], np.float64)
        if not len(times_s):
            left_out.append(f"{told['name']}: holds no sample")
        elif told["text"]:
            values = (str(row[0]) for row in one["time_series"])
            markers += zip(times_s.tolist(), values, strict=True)
        elif not _is_signal(one):
            left_out.append(f"{told['name']}: numbers without a rate")
        else:
            name = told["kind"] if kinds[told["kind"]] == 1 else told["name"]
            streams.append(_stream(name, told, one, times_s, left_out))
    if not streams:
        raise DataError(
            f"{path}: no signal with a rate in it; {'; '.join(left_out) or 'no stream'}"
        )
    return Recording(
        path.stem, path, tuple(streams), tuple(sorted(markers)), _start(head, streams),
        tuple(left_out),
    )  # fmt: skip


def _load(path: Path) -> tuple[list[Any], Mapping[str, Any]]:
    try:
        import pyxdf
    except ImportError as error:
        raise ResourceError(
            f"{path}: XDF files need pyxdf; install it with: pip install 'vagus[formats]'"
        ) from error
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise DataError(f"{path}: is no XDF file: it does not begin with {_MAGIC.decode()}")
    try:
        loaded, head = pyxdf.load_xdf(str(path), verbose=False)
    except Exception as error:  # pyxdf raises whatever its parser meets in a damaged file
        raise DataError(f"{path}: cannot be read as XDF: {error}") from error
    return loaded, head


def _about(one: Mapping[str, Any]) -> dict[str, Any]:
    """Name, kind, rate and the like, out of XDF's lists of one."""
    info = one["info"]
    kind = str(info["type"][0] or "")
    return {
        "name": _NOT_A_NAME.sub("-", str(info["name"][0])).strip("-") or "stream",
        "kind": KINDS.get(kind.lower(), "physio"),
        "text": info["channel_format"][0] == "string",
        "n": int(info["channel_count"][0]),
        "rate_hz": float(info["nominal_srate"][0]),
    }


def _is_signal(one: Mapping[str, Any]) -> bool:
    told = _about(one)
    return not told["text"] and told["rate_hz"] > 0 and len(one["time_stamps"]) > 0


def _stream(
    name: str, told: Mapping[str, Any], one: Any, times_s: Array, left_out: list[str]
) -> RecordedStream:
    data = np.asarray(one["time_series"], np.float32).reshape(len(times_s), told["n"])
    starts = _starts(one["info"], len(times_s))
    rate_hz, measured = told["rate_hz"], _measured(times_s, starts)
    if measured is not None and abs(measured / rate_hz - 1.0) > _OFF:
        left_out.append(
            f"{name}: declared {rate_hz:g} Hz and measured {measured:.6g}, which counts"
        )
        rate_hz = measured
    labels, unit = _channels(one["info"], told)
    every = max(1, round(_STAMP_S * rate_hz))
    edges = [*starts, len(times_s)]
    positions = np.unique(np.concatenate([np.arange(a, b, every) for a, b in pairwise(edges)]))
    return RecordedStream(
        StreamInfo(name, told["kind"], rate_hz, labels, unit, (len(labels),)),
        len(times_s),
        lambda first, last: data[first:last].copy(),
        (positions, times_s[positions]),
        None,
        starts,
    )


def _starts(info: Mapping[str, Any], n: int) -> tuple[int, ...]:
    """Where segments begin: at breaks of the stamps, and where a clock was reset."""
    found = {0}
    for key in ("segments", "clock_segments"):
        found |= {int(first) for first, _ in info.get(key) or ()}
    return tuple(sorted(first for first in found if first < n))


def _measured(times_s: Array, starts: tuple[int, ...]) -> float | None:
    """Samples per second within the segments; None for too few."""
    edges = [*starts, len(times_s)]
    spans = [(b - a - 1, times_s[b - 1] - times_s[a]) for a, b in pairwise(edges)]
    n, length_s = sum(n for n, _ in spans), float(sum(s for _, s in spans))
    return n / length_s if n > 1 and length_s > 0 else None


def _channels(info: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Labels and the unit, as far as the description has them."""
    try:
        listed = info["desc"][0]["channels"][0]["channel"]
    except (KeyError, TypeError, IndexError):
        listed = []
    labels = tuple(str((c.get("label") or [""])[0] or "") for c in listed)
    units = {str((c.get("unit") or [""])[0] or "").lower() for c in listed} - {""}
    if len(labels) != told["n"] or not all(labels) or len(set(labels)) < len(labels):
        labels = tuple(f"{i + 1}" for i in range(told["n"]))
        if told["kind"] == "voice" and told["n"] == 1:
            labels = ("mono",)
    unit = next(iter(units)) if len(units) == 1 else ""
    return labels, UNITS.get(unit, unit) or USUAL_UNIT.get(told["kind"], "")


def _start(head: Mapping[str, Any], streams: list[RecordedStream]) -> float | None:
    """Unix seconds of the first sample, where the file has a date."""
    told = (head.get("info") or {}).get("datetime") or [None]
    try:
        return datetime.fromisoformat(str(told[0])).timestamp()
    except ValueError:
        return None
