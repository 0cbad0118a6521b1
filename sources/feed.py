"""A recording as the chunks of one session: its streams side by side, in the order of time."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from engine.bundle import Bundle
from engine.errors import ConfigError, EndOfStream
from engine.plan import SessionPlan, StreamPlan
from engine.player import Player
from engine.types import Chunk, Event, Marker, Prediction
from sources.recording import RecordedStream, Recording
from sources.replay import ReplaySource

__all__ = ["chunks", "match_bundles", "play_recording", "recording_plan", "session_name"]

_MARKERS = "markers"  # the stream that a file's own markers are told of
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def session_name(path: str | Path) -> str:
    """The session that a file stands for: its stem, as far as a session may be called so."""
    return _NOT_A_NAME.sub("-", Path(path).stem).strip("-")[:64] or "recording"


def match_bundles(recording: Recording, wanted: Mapping[str, Bundle]) -> dict[str, Bundle]:
    """{stream: bundle} out of {stream or "": bundle}; "" is every stream of the bundle's kind.

    Raises ConfigError where a stream is not there, or nothing would be predicted from.
    """
    names = {stream.info.name: stream.info.kind for stream in recording.streams}
    found: dict[str, Bundle] = {}
    for name, bundle in wanted.items():
        kinds = {spec.kind for spec in bundle.inputs.values()}
        fitting = [name] if name else _fitting(recording, bundle)
        if name and name not in names:
            raise ConfigError(
                f"{recording.path}: no stream '{name}'; it has {', '.join(sorted(names))}"
            )
        if not fitting:
            there = ", ".join(f"{n} ({kind})" for n, kind in names.items())
            raise ConfigError(
                f"{recording.path}: bundle {bundle.id} reads {', '.join(sorted(kinds))}; "
                f"the file has {there}"
            )
        found |= dict.fromkeys(fitting, bundle)
    return found


def _fitting(recording: Recording, bundle: Bundle) -> list[str]:
    """The streams of a bundle's kind; where there are several, those that have its channels."""
    specs = bundle.inputs.values()
    infos = [s.info for s in recording.streams if s.info.kind in {spec.kind for spec in specs}]
    if len(infos) > 1:
        infos = [i for i in infos if any(set(s.channels) <= set(i.channels) for s in specs)]
    return [info.name for info in infos]


def recording_plan(
    recording: Recording, bundles: Mapping[str, Bundle], run: str = "replay"
) -> SessionPlan:
    """A session over the recording's streams; its time starts with the recording's first item."""
    origin_s, start = recording.first_s, recording.start_wall
    return SessionPlan(
        session=session_name(recording.name),
        run=run,
        streams={name: StreamPlan(bundle) for name, bundle in bundles.items()},
        hop_s=min(bundle.hop_s for bundle in bundles.values()),
        origin_s=origin_s,
        wall_offset_s=None if start is None else start - origin_s,
    )


def chunks(
    recording: Recording, streams: Mapping[str, object], size: int | None = None
) -> Iterator[tuple[float, Chunk]]:
    """(end_s, chunk) of the named streams in the order of time, in chunks of `size` items."""
    parts = [_read(recording, s, size) for s in recording.streams if s.info.name in streams]
    return heapq.merge(*parts, key=lambda part: part[0])


def play_recording(
    recording: Recording,
    player: Player,
    size: int | None = None,
    pace: Callable[[float], None] = lambda t_s: None,
) -> Iterator[Prediction | Event | Marker]:
    """Feed all of a recording to `player`; `pace` is called with each chunk's end before it."""
    for stream in recording.streams:
        if stream.info.name in player.session.streams:
            yield from player.command("connect", stream=stream.info.name, info=stream.info)

    marks = iter(recording.markers)
    mark = next(marks, None)
    for end_s, chunk in chunks(recording, player.session.streams, size):
        pace(end_s)
        while mark is not None and mark[0] <= end_s:
            yield from player.command("mark", value=mark[1], t=mark[0], stream=_MARKERS)
            mark = next(marks, None)
        yield from player.push(chunk)
    for time_s, value in [] if mark is None else [mark, *marks]:
        yield from player.command("mark", value=value, t=time_s, stream=_MARKERS)
    yield from player.play(())


def _read(
    recording: Recording, stream: RecordedStream, size: int | None
) -> Iterator[tuple[float, Chunk]]:
    name, position = stream.info.name, 0
    with ReplaySource(
        recording, speed="max", stream=name, stream_in_file=name, chunk=size
    ) as source:
        while True:
            try:
                chunk = source.read(1.0)
            except EndOfStream:
                return
            if chunk is not None:
                position += len(chunk)
                yield stream.time(position - 1), chunk
