"""Plays a recording as LSL devices: one outlet per stream, in real time, markers included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, ResourceError
from engine.plugins import nearest
from engine.types import Chunk
from sources.feed import chunks
from sources.lsl.source import liblsl
from sources.recording import RecordedStream, Recording

__all__ = ["Player", "play", "with_labels"]

_TYPES = {"eeg": "EEG", "physio": "Physio", "voice": "Audio"}
_UNITS = {"uV": "microvolts", "mV": "millivolts", "V": "volts", "uS": "microsiemens"}
_UNITS |= {"degC": "celsius", "fs": "normalized"}
_CHUNK_S = 0.04
_SETTLE_S = 0.5  # an inlet that has just opened still empties its buffer
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Player:
    """Outlets that stand for the streams of a recording, and one for its markers."""

    recording: Recording
    outlets: dict[str, Any]
    markers: Any

    def push(self, chunk: Chunk, times_s: list[float]) -> None:
        """Send a chunk, each sample with its own stamp on LSL's clock."""
        self.outlets[chunk.stream].push_chunk(chunk.data, times_s)

    def waiting(self) -> list[str]:
        """The outlets that nobody listens to yet."""
        return [name for name, outlet in self.outlets.items() if not outlet.have_consumers()]


def play(
    recording: Recording,
    stream: str | None = None,
    *,
    wait: bool = True,
    clock: Clock | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Play `recording`, or one `stream` of it, to its end; returns how many samples were sent.

    Outlets are called after their streams, with labels, units and types filled in. With `wait`
    it begins when each outlet has a listener, so that none misses the first sample. Raises
    ConfigError for a stream that is not there, or none that LSL can carry.
    """
    clock, stop = clock or MonotonicClock(), stop or threading.Event()
    streams = _chosen(recording, stream)
    lsl = liblsl()
    player = _open(lsl, recording, streams)
    while wait and not stop.is_set() and (missing := player.waiting()):
        say(f"waiting for a listener to {', '.join(missing)}")
        clock.wait_until(clock.now() + _LOOK_S, stop)
    clock.wait_until(clock.now() + _SETTLE_S, stop)
    start_s, lsl_start_s, n = clock.now(), lsl.local_clock(), 0
    for due_s, what in _merged(recording, streams):
        if not clock.wait_until(start_s + due_s - recording.first_s, stop):
            break
        shift_s = lsl_start_s - recording.first_s
        if isinstance(what, str):
            player.markers.push_sample([what], due_s + shift_s)
            continue
        told = next(s for s in streams if s.info.name == what.stream)
        player.push(what, [t + shift_s for t in _times(told, what)])
        n += len(what)
        say(f"{due_s - recording.first_s:7.1f} s of {recording.end_s - recording.first_s:.1f} s")
    clock.wait_until(clock.now() + _SETTLE_S, stop)  # the last samples are still on their way
    return n


def with_labels(recording: Recording) -> Recording:
    """The same, its first told truth as markers too: `label=happy` starts one, `label=` ends it.

    LSL has no other way to carry it, and a recording made from such markers has its labels again.
    """
    told = next((s for s in recording.streams if s.truth), None)
    if told is None or told.truth is None:
        return recording
    marks = [(told.time(at), f"label={label or ''}") for at, label in told.truth]
    return replace(recording, markers=tuple(sorted([*recording.markers, *marks])))


def _chosen(recording: Recording, stream: str | None) -> list[RecordedStream]:
    names = [s.info.name for s in recording.streams]
    if stream is not None and stream not in names:
        hint = nearest(stream, names) or f"; it has {', '.join(names)}"
        raise ConfigError(f"{recording.path}: no stream '{stream}'{hint}")
    wanted = [s for s in recording.streams if stream in (None, s.info.name)]
    found = [s for s in wanted if s.info.kind in _TYPES and len(s.info.shape) == 1]
    if not found:
        raise ConfigError(
            f"{recording.path}: LSL carries numbers, not pictures; nothing else is in it"
        )
    return found


def _open(lsl: Any, recording: Recording, streams: list[RecordedStream]) -> Player:
    outlets: dict[str, Any] = {}
    for stream in streams:
        info = stream.info
        declared = lsl.StreamInfo(
            info.name, _TYPES[info.kind], len(info.channels), info.rate_hz, "float32",
            f"vagus-play-{recording.name}-{info.name}",
        )  # fmt: skip
        described = declared.desc().append_child("channels")
        for label in info.channels:
            channel = described.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", _UNITS.get(info.unit, info.unit))
        outlets[info.name] = _outlet(lsl, declared)
    name = f"{recording.name}-markers"
    about = lsl.StreamInfo(name, "Markers", 1, 0.0, "string", f"vagus-play-{name}")
    return Player(recording, outlets, _outlet(lsl, about))


def _outlet(lsl: Any, info: Any) -> Any:
    try:
        return lsl.StreamOutlet(info)
    except RuntimeError as error:
        raise ResourceError(f"LSL: the outlet {info.name()} cannot be made: {error}") from error


def _merged(
    recording: Recording, streams: list[RecordedStream]
) -> Iterator[tuple[float, Chunk | str]]:
    """Chunks of about 40 ms, and markers, in the order of time."""
    from heapq import merge

    names = {stream.info.name: None for stream in streams}
    size = max(1, round(_CHUNK_S * max(s.info.rate_hz or 1.0 for s in streams)))
    parts: list[Iterator[tuple[float, Chunk | str]]] = []
    for stream in streams:
        n = max(1, round(size * (stream.info.rate_hz or 1.0) / max(
            s.info.rate_hz or 1.0 for s in streams)))  # fmt: skip
        parts.append(chunks(recording, {stream.info.name: names}, n))
    parts.append(iter(recording.markers))
    return merge(*parts, key=lambda part: part[0])


def _times(stream: RecordedStream, chunk: Chunk) -> list[float]:
    """When each sample of a chunk stands, in seconds of the recording."""
    start = stream.segment_starts[chunk.segment % stream.segments] + chunk.first_index
    return [stream.time(start + i) for i in range(len(chunk))]
