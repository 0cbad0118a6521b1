"""Clips as whole sequences of frames out of the serving session, at several speeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from engine.bundle import InputSpec
from engine.errors import DataError
from engine.types import Array
from offline.datasets import LabelledRecording
from offline.readers import open_labelled
from offline.windows import ticks
from sources.recording import Recording

__all__ = ["LEAST_QUALITY", "Take", "cached_takes", "last_frames", "live_windows", "take"]

LEAST_QUALITY = 0.3  # the valid share below which a session makes no prediction
_LONG_S = 60.0  # beyond any clip
_TINY_S = 1e-3
_MARGIN = 1e-6


@dataclass(frozen=True, slots=True)
class Take:
    """All frames of a clip (time, bins), as they came out of the steps, and which are valid."""

    recording: LabelledRecording
    frames: Array
    valid: Array

    def window(self, end: int, n_items: int) -> tuple[Array, Array]:
        """What a session has at frame `end`: the last `n_items`, or all and invalid zeros."""
        first = max(0, end - n_items)
        frames = np.zeros((n_items, self.frames.shape[1]), np.float32)
        valid = np.zeros(n_items, bool)
        frames[: end - first] = self.frames[first:end]
        valid[: end - first] = self.valid[first:end]
        return frames, valid


def take(recording: LabelledRecording, inputs: Mapping[str, InputSpec], speed: float = 1.0) -> Take:
    """The frames of one clip; at another speed it claims another rate, and the session resamples.

    Raises DataError for a clip that gives no frame, or lasts over a minute.
    """
    ((name, spec),) = inputs.items()
    whole = {name: msgspec.structs.replace(spec, window_s=_LONG_S, min_filled_s=_TINY_S)}
    opened = _faster(open_labelled(recording), speed)
    if opened.end_s >= _LONG_S:
        raise DataError(f"{recording.path}: lasts {opened.end_s:.0f} s; clips end below a minute")
    cuts = list(ticks(recording, whole, _LONG_S, opened))
    if len(cuts) != 1:
        raise DataError(f"{recording.path}: {opened.end_s:.3f} s give no frame to train on")
    frames, valid = cuts[0].inputs[name], cuts[0].valid[name]
    n = int(np.flatnonzero(frames.any(1))[-1]) + 1  # behind them are zeros; no frame is zero
    return Take(recording, frames[:n].copy(), valid[:n].copy())


def last_frames(n_frames: int, rate_hz: float, hop_s: float, least: int) -> list[int]:
    """How many frames of a clip of `n_frames` a session has at each tick, from `least` on.

    A frame stands on its last sample: that of time 0 comes first. The last tick has them all.
    """
    ends: list[int] = []
    tick = 1
    while (end := int(tick * hop_s * rate_hz + _MARGIN) + 1) < n_frames:
        if end >= least:
            ends.append(end)
        tick += 1
    return [*ends, n_frames] if n_frames >= least else ends


def live_windows(
    clip: Take, n_items: int, rate_hz: float, hop_s: float, least: int
) -> Iterator[tuple[Array, Array]]:
    """The windows that a session predicts from, in order: (time, bins) and (time,)."""
    for end in last_frames(len(clip.frames), rate_hz, hop_s, least):
        frames, valid = clip.window(end, n_items)
        if np.count_nonzero(valid) >= LEAST_QUALITY * min(end, n_items):
            yield frames, valid


def cached_takes(
    recordings: Sequence[LabelledRecording],
    inputs: Mapping[str, InputSpec],
    speed: float,
    folder: Path,
) -> list[Take]:
    """`take` of each recording, kept in `folder` under the files, the steps and the speed."""
    path = folder / f"{_key(recordings, inputs, speed)}.npz"
    if not path.is_file():
        made = [take(recording, inputs, speed) for recording in recordings]
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            frames=np.concatenate([clip.frames for clip in made]),
            valid=np.concatenate([clip.valid for clip in made]),
            n=np.array([len(clip.frames) for clip in made]),
        )
        part.rename(path)
    with np.load(path, allow_pickle=False) as kept:
        ends = np.cumsum(kept["n"])[:-1]
        rows = zip(
            recordings,
            np.split(kept["frames"], ends),
            np.split(kept["valid"], ends),
            strict=True,
        )
        return [Take(*row) for row in rows]


def _key(
    recordings: Sequence[LabelledRecording], inputs: Mapping[str, InputSpec], speed: float
) -> str:
    files = [[r.uid, r.path.stat().st_size, r.path.stat().st_mtime_ns] for r in recordings]
    about = [files, {k: msgspec.to_builtins(spec) for k, spec in inputs.items()}, speed]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _faster(recording: Recording, speed: float) -> Recording:
    """The same samples, said to come at another rate: higher and shorter above 1."""
    if speed == 1.0:
        return recording
    streams = []
    for stream in recording.streams:
        assert stream.info.rate_hz is not None
        assert stream.stamps is None
        rate_hz = float(round(stream.info.rate_hz * speed))
        streams.append(replace(stream, info=replace(stream.info, rate_hz=rate_hz)))
    return replace(recording, streams=tuple(streams))
