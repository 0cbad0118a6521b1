"""An LSL stream as a source: blocks for samples, maps their stamps, finds the device again."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, EndOfStream, ResourceError, SourceLost
from engine.types import Array, Chunk, StreamInfo
from sources.lsl.streams import Found, check_size, choose, condition, found, signature

__all__ = ["LslSource", "liblsl"]

_FIND_S = 5.0  # how long one attempt looks for the stream
_WAVE_S = 0.7  # the resolver asks around every half second
_LOOK_S = 0.1  # between two looks at what the resolver knows
_ASK_S = 0.2  # in which every outlet that is there answers one question
_TWINS = 2  # so many end the wait for more
_ANSWER_S = 3.0  # for metadata, the clock and the first connection
_FORGET_S = 1.5  # after its last sign of life a stream is no longer on the network
_GAP_S = 0.6  # a stamp this much later than due means lost samples; less may be jitter
_BUFFER_S = 60
_FEW = 16
_PIECE_S = 0.25  # at most, of what has piled up: later ticks shed what is too old by then
_KIND = ("eeg", "physio", "voice", "marker")


class LslSource:
    """One LSL stream, told by `match` {name, type, source_id, host} or an XPath `predicate`.

    `delay_s` is what the device needs from the skin to the stamp; it is taken off every stamp.
    `kind` (eeg, physio, voice, marker) and `unit` stand where the metadata say nothing or wrong.
    Samples are handed over about every `chunk_s`. Stamps are mapped by LSL's time correction to
    this machine's LSL clock, and from there to `clock`.

    liblsl's own recovery is off, since it takes a restarted outlet of another rate without a
    word. A lost stream is looked for without end, by a resolver that runs all the time: the same
    signature comes back as a new segment, another one is told with its own info, so that the
    session refuses it. Of two outlets with the same identity neither is read.
    """

    info: StreamInfo

    def __init__(
        self,
        match: Mapping[str, str] | None = None,
        predicate: str | None = None,
        kind: str | None = None,
        unit: str | None = None,
        delay_s: float = 0.0,
        chunk_s: float = 0.05,
        stream: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if kind is not None and kind not in _KIND:
            raise ConfigError(f"kind: {kind!r} is none of {', '.join(_KIND)}")
        if not 0 <= delay_s < 60 or not 0 < chunk_s <= 1:
            raise ConfigError(
                f"delay_s {delay_s:g}, chunk_s {chunk_s:g}: need 0 to 60, and above 0 to 1"
            )
        self._wanted = condition(match or {}, predicate)
        self._kind, self._unit = kind, unit
        self._delay_s, self._chunk_s = delay_s, chunk_s
        self._stream = stream or kind or "lsl"
        self._clock = clock or MonotonicClock()
        self._closed = threading.Event()
        self._resolver: Any = None
        self._inlet: Any = None
        self._gone: set[str] = set()  # outlets that were lost: the resolver forgets them later
        self._uid = ""
        self._segment, self._next = -1, 0
        self._due_s = 0.0  # when, by its stamp, the next sample should come
        self._flowing = False
        self._piece = _FEW  # samples in one chunk
        self._local_s = 0.0  # the engine's clock minus LSL's, on this machine
        self.n_skipped = 0  # samples older than the connection, which were left out

    def __enter__(self) -> LslSource:
        if self._resolver is None:
            lsl = liblsl()
            self._resolver = lsl.ContinuousResolver(pred=self._wanted, forget_after=_FORGET_S)
            self._local_s = _between(self._clock, lsl)
        self._connect(_FIND_S)
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        self._inlet = self._resolver = None

    def read(self, timeout_s: float) -> Chunk | None:
        """What came since the last call, or None after `timeout_s` without anything.

        Raises SourceLost when the outlet is gone or does not fit, EndOfStream once closed.
        """
        if self._closed.is_set():
            raise EndOfStream
        if self._inlet is None:
            self._connect(timeout_s)
            return None
        try:
            data, stamps = self._pull(timeout_s)
        except liblsl().util.LostError as error:
            self._inlet, self._flowing = None, False
            self._gone.add(self._uid)
            raise SourceLost(f"the LSL stream with {self._wanted} went away") from error
        return self._chunk(data, stamps) if len(stamps) else None

    def _pull(self, timeout_s: float) -> tuple[Array, Array]:
        """(items, channels) and stamps: all there is within a chunk's time of the first one."""
        if self._flowing and self.info.rate_hz is not None:
            data, stamps = self._inlet.pull_chunk(self._chunk_s, self._piece)
        else:
            data, stamps = self._inlet.pull_chunk(timeout_s, self._piece, min_samples=1)
        self._flowing = len(stamps) > 0
        return data, stamps

    def _chunk(self, data: Array, raw_s: Array) -> Chunk:
        """Samples with the stamps of the engine's clock, and indices that leave room for gaps."""
        offset_s = self._inlet.time_correction(_ANSWER_S) + self._local_s - self._delay_s
        times_s = raw_s + offset_s
        rate_hz, n = self.info.rate_hz, len(times_s)
        if rate_hz is None:
            first, self._next = self._next, self._next + n
            stamps = tuple((first + i, float(t)) for i, t in enumerate(times_s))
            return Chunk(self._stream, self._segment, first, stamps, _texts(data), (), offset_s)
        lost_s = float(times_s[0]) - self._due_s
        if self._due_s and lost_s > _GAP_S:
            self._next += round(lost_s * rate_hz)
        first, self._next = self._next, self._next + n
        self._due_s = float(times_s[-1]) + 1.0 / rate_hz
        stamps = tuple((first + int(i), float(times_s[i])) for i in _anchors(n, rate_hz))
        return Chunk(self._stream, self._segment, first, stamps, data, (), offset_s)

    def _connect(self, timeout_s: float) -> None:
        """Find the stream and open it; raises SourceLost where there is none, or it cannot be."""
        about = self._find(timeout_s)
        if about is None:
            return
        lsl, (told, resolved) = liblsl(), about
        check_size(told)
        inlet = lsl.StreamInlet(resolved, _BUFFER_S, recover=False, as_numpy=True)
        try:
            info = signature(self._stream, inlet.info(_ANSWER_S), self._kind, self._unit)
            inlet.open_stream(_ANSWER_S)
            skipped = inlet.flush()
            inlet.time_correction(_ANSWER_S)  # takes 0.6 s, while samples already come
        except (lsl.util.LostError, TimeoutError) as error:
            self._gone.add(told.uid)
            raise SourceLost(f"{told} does not answer: {error}") from error
        self.n_skipped = skipped
        self.info, self._inlet, self._uid = info, inlet, told.uid
        self._piece = max(_FEW, round((info.rate_hz or 0.0) * _PIECE_S))
        self._segment, self._next, self._due_s = self._segment + 1, 0, 0.0

    def _find(self, timeout_s: float) -> tuple[Found, Any] | None:
        """The one stream that fits, once the resolver knows it; None if closed meanwhile."""
        end_s = self._clock.now() + timeout_s
        back = self._segment >= 0
        settled_s = 0.0 if back else None  # a twin is seen in the second wave
        asked: list[Any] = []
        while not self._closed.is_set():
            known = {info.uid(): info for info in [*self._resolver.results(), *asked]}
            self._gone &= known.keys()
            there = {uid: info for uid, info in known.items() if uid not in self._gone}
            if there and settled_s is None:
                settled_s = self._clock.now() + _WAVE_S
            if there and settled_s is not None and self._clock.now() >= settled_s:
                told = choose([found(info) for info in there.values()], self._wanted)
                return told, there[told.uid]
            if not there and self._clock.now() >= end_s:
                seen = _seen() if timeout_s == _FIND_S else ""
                raise SourceLost(
                    f"no LSL stream with {self._wanted} within {timeout_s:g} s{seen}; start the "
                    "device or change match (vagus devices lists what there is)"
                )
            if back:  # the resolver's next wave may be more than a second away
                asked = liblsl().resolve_bypred(self._wanted, _TWINS, _ASK_S)
            else:
                self._clock.wait_until(self._clock.now() + _LOOK_S, self._closed)
        return None


def _anchors(n: int, rate_hz: float) -> Array:
    """Which items of a chunk carry their stamps on: the first, and then every quarter second."""
    return np.arange(0, n, max(1, round(0.25 * rate_hz)))


def _texts(data: Any) -> Array:
    """Markers (n, 1) as text, whatever bytes they came in."""
    made = np.empty((len(data), 1), object)
    for i, row in enumerate(data):
        value = row[0]
        made[i, 0] = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return made


def _between(clock: Clock, lsl: Any) -> float:
    """The engine's clock minus LSL's, from the closest of a few pairs of readings."""
    pairs = []
    for _ in range(8):
        before_s = clock.now()
        lsl_s = lsl.local_clock()
        after_s = clock.now()
        pairs.append((after_s - before_s, 0.5 * (before_s + after_s) - lsl_s))
    return float(min(pairs)[1])


def _seen() -> str:
    """What else is on the network, for a message."""
    others = [str(found(info)) for info in liblsl().resolve_streams(0.5)]
    return f"; seen: {', '.join(sorted(others)[:5])}" if others else "; none is seen at all"


def liblsl() -> Any:
    """The module pylsl; raises ResourceError with the fix where liblsl is missing."""
    try:
        import pylsl
    except (ImportError, OSError, RuntimeError) as error:
        raise ResourceError(
            f"liblsl cannot be loaded: {error}; install it with: pip install pylsl"
        ) from error
    return pylsl
