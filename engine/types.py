"""What flows: chunks in, windows through, predictions out. Frozen, plain, time first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol, TypeAlias

from numpy.typing import NDArray

__all__ = [
    "Array",
    "Chunk",
    "Event",
    "Health",
    "Marker",
    "Message",
    "Notes",
    "Numbered",
    "Prediction",
    "Runtime",
    "Schema",
    "Signal",
    "Sink",
    "Source",
    "Step",
    "StreamInfo",
    "Window",
]

Array: TypeAlias = NDArray[Any]
Notes: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source declares about its stream before the first item.

    `rate_hz` is None for an irregular stream (markers, cameras). `shape` is that of one item,
    `(channels,)` for signals. `kind` is one of eeg, physio, voice, face, marker.
    """

    name: str
    kind: str
    rate_hz: float | None
    channels: tuple[str, ...]
    unit: str
    shape: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """The stream as the schema message names it."""
        names = ("kind", "rate_hz", "unit")
        return {"channels": list(self.channels)} | {name: getattr(self, name) for name in names}

    def difference(self, now: StreamInfo) -> str:
        """What `now` declares otherwise; empty if nothing (the name does not count)."""
        return "; ".join(
            f"{name} was {getattr(self, name)}, now {getattr(now, name)}"
            for name in ("kind", "rate_hz", "channels", "unit", "shape")
            if getattr(self, name) != getattr(now, name)
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive items of one stream.

    `data` is (time, *shape); item j of it has the index `first_index + j` within `segment`. The
    source counts every item its device made, so an index that jumps is a gap of known length.
    `stamps` are ((index, time_s), ...): what the device's clock said for some of these indices,
    in seconds of the engine's clock, ascending in index. Re-cutting a stream moves stamps along
    with their items. `truth` holds ((index, label), ...): from that item on the true label, for
    recordings and simulations that know it. `offset_s` is what lies between the device's own stamps
    and these, as far as the source knows: own stamp + offset_s = stamp.
    """

    stream: str
    segment: int
    first_index: int
    stamps: tuple[tuple[int, float], ...]
    data: Array
    truth: tuple[tuple[int, str | None], ...] = ()
    offset_s: float = 0.0

    def __len__(self) -> int:
        return len(self.data)

    def cut(self, at: int) -> tuple[Chunk, Chunk]:
        """The same items as two chunks, the first with `at` of them (0 < at < len)."""
        edge = self.first_index + at
        return (
            Chunk(
                self.stream,
                self.segment,
                self.first_index,
                tuple(s for s in self.stamps if s[0] < edge),
                self.data[:at],
                tuple(s for s in self.truth if s[0] < edge),
                self.offset_s,
            ),
            Chunk(
                self.stream,
                self.segment,
                edge,
                tuple(s for s in self.stamps if s[0] >= edge),
                self.data[at:],
                tuple(s for s in self.truth if s[0] >= edge),
                self.offset_s,
            ),
        )


@dataclass(frozen=True, slots=True)
class Signal:
    """How good a signal is, 0 to 1, and what is wrong just now: {channel: faults}.

    `quality` is the mean over the channels and over the window; see `engine.judges`. What is wrong
    with all channels of several stands under `all`.
    """

    quality: float
    faults: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Window:
    """The last `window_s` of one stream at a tick, after its steps.

    `data` (time, *item) and `valid` (time,) are read-only views into the lane's ring: copy them
    to keep them. A partly filled window has `n_items` items first and invalid zeros behind;
    `n_valid` of them are valid.
    `first` and `last` are the indices, inclusive, of the source items it spans; those of a stream
    without a rate are the instants of its grid. `notes` are what the steps noted of the last item,
    `signal` what is thought of the raw signal, where that is judged.
    """

    stream: str
    segment: int
    first: int
    last: int
    data: Array
    valid: Array
    n_items: int
    n_valid: int
    notes: Notes = field(default_factory=dict)
    signal: Signal | None = None

    @property
    def filled(self) -> float:
        """The valid share of the whole window, 0 to 1."""
        return self.n_valid / len(self.valid)

    @property
    def present(self) -> float:
        """The valid share of the items at hand, 0 to 1."""
        return self.n_valid / self.n_items

    @property
    def quality(self) -> float:
        """The quality of the signal, or the valid share where that is less, 0 to 1."""
        return self.present if self.signal is None else min(self.present, self.signal.quality)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One message of kind `prediction`; every message carries the fields of its wire map."""

    kind: ClassVar[str] = "prediction"
    run: str
    session: str
    seq: int
    tick: int
    t: float
    t_wall: float | None
    label: str | None
    probabilities: dict[str, float] | None
    confidence: float | None
    dimensions: dict[str, float] | None
    modalities: dict[str, dict[str, Any]]
    missing: list[str]
    latency_ms: dict[str, float] = field(default_factory=dict)
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something changed; `code` is one of the closed list of the wire."""

    kind: ClassVar[str] = "event"
    run: str
    session: str
    seq: int
    t: float
    t_wall: float | None
    code: str
    stream: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker came in, from a stream or through the control socket (`stream` "control")."""

    kind: ClassVar[str] = "marker"
    run: str
    session: str
    seq: int
    t: float
    t_wall: float | None
    stream: str
    value: str


@dataclass(frozen=True, slots=True)
class Health:
    """The account, the lags and the latencies of a session, every second."""

    kind: ClassVar[str] = "health"
    run: str
    session: str
    seq: int
    t: float
    t_wall: float | None
    ready: bool
    degraded: list[str]
    counters: dict[str, dict[str, dict[str, Any]]]
    lag_s: dict[str, float]
    latency_ms: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Schema:
    """What a session is made of; sent to whoever subscribes, and on every change."""

    kind: ClassVar[str] = "schema"
    run: str
    engine: str
    session: str
    streams: dict[str, dict[str, Any]]
    bundles: dict[str, dict[str, Any]]
    fusion: str
    smoothing: str
    hop_s: float
    started_wall: float | None


Numbered: TypeAlias = Prediction | Event | Marker | Health
Message: TypeAlias = Numbered | Schema


class Source(Protocol):
    """One device, read by one thread. A context manager; `info` is known once it is entered."""

    info: StreamInfo

    def __enter__(self) -> Source: ...
    def __exit__(self, *exc: object) -> None: ...
    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None if none came within `timeout_s`.

        Raises EndOfStream when there will be no more, SourceLost when the device went away (a
        later `read` may succeed again, with a new segment).
        """
        ...


class Step(Protocol):
    """A causal transformation whose output bits do not depend on how its input is cut."""

    info: StreamInfo  # what comes out: rate, channels, unit, item shape
    ratio: Fraction  # output rate / input rate
    delay_s: float  # group delay at the pass band's centre

    def reset(self) -> None:
        """Forget the past: a new segment begins."""
        ...

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        """(time, *item), (time,) -> (time', *item'), (time',), notes. `time` may be 0."""
        ...


class Runtime(Protocol):
    """Runs a bundle's graph."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        """(batch, time, *item) and (batch, time) per input -> (batch, labels) probabilities."""
        ...


class Sink(Protocol):
    """Where messages end: a terminal, a file, another protocol."""

    def write(self, message: Message) -> None: ...

    def close(self) -> None: ...
