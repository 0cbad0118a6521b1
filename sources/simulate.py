"""A simulated participant as a source: known truth, any fault, the same bits every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, EndOfStream
from engine.plugins import nearest
from engine.types import Array, Chunk, StreamInfo
from sources.faults import parse_faults, with_faults
from sources.participant import LatentState
from sources.planes import parse_picture_faults, with_picture_faults
from sources.playback import Delivery, Playback, check_speed
from sources.synthetic.eeg import SyntheticEeg
from sources.synthetic.face import SyntheticFace
from sources.synthetic.pulse import SyntheticPulse
from sources.synthetic.skin import SyntheticSkin
from sources.synthetic.voice import SyntheticVoice

__all__ = ["Signal", "SimulateSource"]


class Signal(Protocol):
    """What a person's state looks like to one kind of device, made block by block."""

    kind: str  # of the stream: eeg, physio, voice, face
    unit: str
    channels: tuple[str, ...]
    shape: tuple[int, ...]  # of one item; its last axis is the channels

    def next_block(self) -> Array:
        """The next items (time, *shape): float32, uint8 where they are pictures."""
        ...


class _Device(NamedTuple):
    """What makes a kind of signal, and at which rate where none is asked for."""

    signal: Callable[[LatentState, float], Signal]
    usual_hz: float


_DEVICES: Mapping[str, _Device] = MappingProxyType(
    {
        "eeg": _Device(SyntheticEeg, 256.0),
        "skin": _Device(SyntheticSkin, 8.0),
        "pulse": _Device(SyntheticPulse, 64.0),
        "voice": _Device(SyntheticVoice, 16000.0),
        "face": _Device(SyntheticFace, 15.0),
    }
)


class SimulateSource:
    """What a device would send from person number `person`.

    `kind` is eeg, skin, pulse, voice or face, and how the stream is called where `stream` does not
    say; `rate_hz` None is the kind's usual rate; `faults` are maps as in the config docs;
    `seconds` None goes on for ever; `speed` is a factor of real time or "max". The signal at a
    time depends on person, kind and rate alone. Sources of one person share a state, in step
    where they have the same `origin_s`: the time of the first item, by default the clock's on
    entering where the source is paced, else 0. Every chunk has a stamp on its first item; `truth`
    names the labels as they begin.
    """

    info: StreamInfo

    def __init__(
        self,
        person: int = 0,
        kind: str = "eeg",
        faults: Sequence[Mapping[str, Any]] = (),
        rate_hz: float | None = None,
        seconds: float | None = None,
        speed: float | str = 1.0,
        stream: str | None = None,
        clock: Clock | None = None,
        chunk_s: float = 0.04,
        origin_s: float | None = None,
    ) -> None:
        if kind not in _DEVICES:
            hint = nearest(str(kind), _DEVICES) or f"; known: {', '.join(_DEVICES)}"
            raise ConfigError(f"kind: cannot simulate {kind!r}{hint}")
        for key, value in (("rate_hz", rate_hz), ("chunk_s", chunk_s), ("seconds", seconds)):
            if value is not None and not _is_positive(value):
                raise ConfigError(f"{key}: {value!r}; need a number above 0")
        self._state = LatentState(person)
        self._rate_hz = float(_DEVICES[kind].usual_hz if rate_hz is None else rate_hz)
        self._make = partial(_DEVICES[kind].signal, self._state, self._rate_hz)
        self.info = _info(self._make(), stream or kind, self._rate_hz)
        self._pictures = len(self.info.shape) > 1
        parse = parse_picture_faults if self._pictures else parse_faults
        self._faults = parse(faults, self.info)
        self._n_items = math.inf if seconds is None else max(1, round(seconds * self._rate_hz))
        self._size = max(1, round(chunk_s * self._rate_hz))
        self._clock, self._speed = clock or MonotonicClock(), check_speed(speed)
        self._origin_s = origin_s
        self._playback: Playback | None = None

    def __enter__(self) -> SimulateSource:
        deliveries = self._deliveries()
        if self._faults:
            spoil = with_picture_faults if self._pictures else with_faults
            deliveries = spoil(deliveries, self._faults, self.info, self._state.person)
        self._playback = Playback(deliveries, self._clock, self._speed, self._origin_s)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._playback is not None:
            self._playback.close()

    def read(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None if it is not due within `timeout_s`.

        Raises EndOfStream after the last one and when the source is closed, and SourceLost where
        a fault says so.
        """
        if self._playback is None:
            raise EndOfStream
        return self._playback.read(timeout_s)

    def _deliveries(self) -> Iterator[Delivery]:
        """The signal, cut into chunks of equal size, without any fault."""
        signal = self._make()
        rest, at = signal.next_block(), 0
        while at < self._n_items:
            size = int(min(self._size, self._n_items - at))
            while len(rest) < size:
                rest = np.concatenate([rest, signal.next_block()])
            items, rest = rest[:size], rest[size:]
            items.flags.writeable = False
            chunk = Chunk(
                self.info.name, 0, at, ((at, at / self._rate_hz),), items, self._truth(at, size)
            )
            yield Delivery((at + size - 1) / self._rate_hz, at, chunk)
            at += size

    def _truth(self, at: int, size: int) -> tuple[tuple[int, str | None], ...]:
        """The labels that begin with one of the items [at, at + size)."""
        rate_hz = self._rate_hz
        begins = self._state.changes((at - 1) / rate_hz, (at + size) / rate_hz)
        marks = [(math.ceil(t * rate_hz), label) for t, label in begins]
        return tuple((item, label) for item, label in marks if at <= item < at + size)


def _info(signal: Signal, name: str, rate_hz: float) -> StreamInfo:
    return StreamInfo(name, signal.kind, rate_hz, signal.channels, signal.unit, signal.shape)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
