"""A recorded stream as a source: paced by the clock, or as fast as it is read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, DataError, EndOfStream
from engine.types import Chunk, StreamInfo
from sources.datasets import find, open_with_truth
from sources.files import open_recording
from sources.playback import Delivery, Playback, check_speed
from sources.recording import RecordedStream, Recording

__all__ = ["ReplaySource"]

_CHUNK_S = 0.04  # paced, about what devices send
_CHUNK_AT_MAX_S = 0.5
_BLOCK_S = 10.0  # how much of the file is held in memory


class ReplaySource:
    """Plays one stream of a file, or of a recording that is open already.

    `speed` is a factor of real time or "max"; `loop` begins again at the end, in a new segment;
    `stream` renames the stream, `stream_in_file` picks one where there are several; `chunk` is
    in items. With `dataset` it is that `recording` (its uid) which the data set's reader finds
    below `path` under its `options`, and its items know their true label.

    The recording starts at `origin_s`, in event time and, where it is paced, on the clock; so a
    paced replay whose event time starts at 0 needs a clock that does. The default is the clock's
    time on entering where it is paced, else the file's own clock, or 0 without one. A chunk is
    handed out when the clock has reached its last item.
    """

    info: StreamInfo

    def __init__(
        self,
        path: str | Path | Recording,
        speed: float | str = 1.0,
        loop: bool = False,
        stream: str | None = None,
        stream_in_file: str | None = None,
        chunk: int | None = None,
        dataset: str | None = None,
        recording: str | None = None,
        options: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        origin_s: float | None = None,
    ) -> None:
        if chunk is not None and chunk < 1:
            raise ConfigError(f"chunk: {chunk} items; need at least 1")
        if (dataset is None) != (recording is None):
            raise ConfigError("dataset and recording go together: which reader, and which of its")
        self._path, self._loop, self._chunk = path, loop, chunk
        self._dataset, self._recording, self._options = dataset, recording, options or {}
        self._speed = check_speed(speed)
        self._stream, self._stream_in_file = stream, stream_in_file
        self._clock = clock or MonotonicClock()
        self._origin_s = origin_s
        self._playback: Playback | None = None

    def __enter__(self) -> ReplaySource:
        recording = self._open()
        recorded = _pick(recording, self._stream_in_file)
        self.info = replace(recorded.info, name=self._stream or recorded.info.name)
        rate_hz = self.info.rate_hz
        assert rate_hz is not None
        chunk_s = _CHUNK_AT_MAX_S if self._speed is None else _CHUNK_S
        size = self._chunk or max(1, round(chunk_s * rate_hz))
        self._playback = Playback(
            _deliveries(recorded, recording, self.info.name, size, self._loop),
            self._clock,
            self._speed,
            self._origin_s,
            recording.first_s,
        )
        return self

    def _open(self) -> Recording:
        if isinstance(self._path, Recording):
            return self._path
        if self._dataset is None or self._recording is None:
            return open_recording(self._path)
        return open_with_truth(find(self._dataset, self._path, self._recording, self._options))

    def __exit__(self, *exc: object) -> None:
        if self._playback is not None:
            self._playback.close()

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None if it is not due within `timeout_s`.

        Raises EndOfStream after the last one, and when the source is closed.
        """
        if self._playback is None:
            raise EndOfStream
        return self._playback.read(timeout_s)


def _pick(recording: Recording, name: str | None) -> RecordedStream:
    names = [stream.info.name for stream in recording.streams]
    if name is None and len(names) == 1:
        return recording.streams[0]
    if name not in names:
        problem = f"no stream '{name}' in it" if name else "several streams in it"
        raise DataError(f"{recording.path}: {problem}; stream_in_file is one of {', '.join(names)}")
    return recording.streams[names.index(name)]


def _deliveries(
    stream: RecordedStream, recording: Recording, name: str, size: int, loop: bool
) -> Iterator[Delivery]:
    """The whole stream in chunks of up to `size` items, once or for ever.

    Time counts from the start of the recording, so that its streams stay together.
    """
    first_s, length_s = recording.first_s, recording.end_s - recording.first_s
    n_rounds = 0
    while n_rounds == 0 or loop:
        for chunk, at in _chunks(stream, name, size):
            late_s = n_rounds * length_s
            due_s = stream.time(at + len(chunk) - 1) - first_s + late_s
            if n_rounds:
                stamps = tuple((i, t + late_s) for i, t in chunk.stamps)
                segment = chunk.segment + n_rounds * stream.segments
                chunk = replace(chunk, segment=segment, stamps=stamps)
            yield Delivery(due_s, at + n_rounds * stream.n_items, chunk)
        n_rounds += 1


def _chunks(stream: RecordedStream, name: str, size: int) -> Iterator[tuple[Chunk, int]]:
    """Chunks of one pass and the position of their first item; none spans two segments."""
    assert stream.info.rate_hz is not None
    block = size * max(1, round(_BLOCK_S * stream.info.rate_hz / size))
    edges = [*stream.segment_starts, stream.n_items]
    marks = stream.truth or ()
    marks_at = [position for position, _ in marks]
    label: str | None = None
    for segment, (start, end) in enumerate(pairwise(edges)):
        for block_at in range(start, end, block):
            data = stream.read(block_at, min(block_at + block, end))
            data.flags.writeable = False
            for offset in range(0, len(data), size):
                at = block_at + offset
                items = data[offset : offset + size]
                stamps = _stamps(stream, at, at + len(items), at == start)
                truth = list(
                    marks[bisect_left(marks_at, at) : bisect_left(marks_at, at + len(items))]
                )
                if marks and at == start and not (truth and truth[0][0] == at):
                    truth.insert(0, (at, label))
                label = truth[-1][1] if truth else label
                yield (
                    Chunk(
                        name,
                        segment,
                        at - start,
                        tuple((i - start, t) for i, t in stamps),
                        items,
                        tuple((i - start, value) for i, value in truth),
                    ),
                    at,
                )


def _stamps(stream: RecordedStream, first: int, last: int, begins: bool) -> list[tuple[int, float]]:
    """The file's stamps of the items [first, last); a segment's first item has one always."""
    stamps: list[tuple[int, float]] = []
    if stream.stamps is not None:
        positions, times_s = stream.stamps
        a, b = positions.searchsorted((first, last))
        stamps = list(zip(positions[a:b].tolist(), times_s[a:b].tolist(), strict=True))
    if begins and not (stamps and stamps[0][0] == first):
        stamps.insert(0, (first, stream.time(first)))
    return stamps
