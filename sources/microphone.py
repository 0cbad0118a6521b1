"""A microphone as a source: what PortAudio delivers, counted against the clock."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from engine.clock import Clock, MonotonicClock
from engine.errors import ConfigError, EndOfStream, ResourceError, SourceLost
from engine.types import Array, Chunk, StreamInfo

__all__ = ["MicrophoneSource", "input_devices", "portaudio"]

_BLOCK_S = 0.02
_WARM_UP_S = 0.8  # sound servers first deliver what they had, then pause, then keep time
_SILENT_S = 1.0  # without a block for so long the device is gone
_SETTLE_S = 3.0  # how long a new stream's lag may still grow into its usual one
_LOST_S = 0.05  # less than this behind the clock is jitter
_LOOK_BACK_S = 0.5  # the least lag within this time is the device's own
_DRIFT = 0.01  # how far the usual lag follows the present one, per block
_QUEUE_S = 30.0
_reopening = threading.Lock()


class _Block:
    """Frames (time, channels) as the callback got them, and when the first was taken."""

    __slots__ = ("frames", "time_s")

    def __init__(self, frames: Array, time_s: float) -> None:
        self.frames, self.time_s = frames, time_s


class MicrophoneSource:
    """A microphone by `device`: "default", an index, or part of its name.

    `rate_hz` and `n_channels` None are the device's own. Frames that the device lost are told by
    the clock, not by overflow flags: once all blocks of half a second come too late for the
    frames that were counted, the index jumps by what lacks. A device that falls silent or is
    pulled out is lost; each `read` then tries to open it again, as a new segment.
    """

    info: StreamInfo

    def __init__(
        self,
        device: str | int = "default",
        rate_hz: float | None = None,
        n_channels: int | None = None,
        dtype: str = "float32",
        stream: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if dtype not in ("float32", "int16"):
            raise ConfigError(f"dtype: {dtype!r} is neither float32 nor int16")
        if rate_hz is not None and not 1000 <= rate_hz <= 768_000:
            raise ConfigError(f"rate_hz: {rate_hz:g} is no rate of a microphone")
        if n_channels is not None and not 1 <= n_channels <= 64:
            raise ConfigError(f"n_channels: {n_channels}; need 1 to 64")
        self._wanted, self._rate_hz, self._n_channels = device, rate_hz, n_channels
        self._dtype, self._name = dtype, stream or "voice"
        self._clock = clock or MonotonicClock()
        self._closed = threading.Event()
        self._blocks: deque[_Block] = deque()
        self._there = threading.Condition()
        self._device: Any = None
        self._segment, self._next, self._ready_s = -1, 0, 0.0
        self._lag = _Lag(1.0)
        self.n_lost = 0  # frames that the device never delivered

    def __enter__(self) -> MicrophoneSource:
        self._open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        self._shut()
        with self._there:
            self._there.notify_all()

    def read(self, timeout_s: float) -> Chunk | None:
        """All frames that came since the last call, or None after `timeout_s`.

        Raises SourceLost while the device is away, EndOfStream once closed.
        """
        if self._closed.is_set():
            raise EndOfStream
        if self._device is None:
            self._clock.wait_until(self._clock.now() + timeout_s, self._closed)
            self._open()
            return None
        patience_s = max(timeout_s, _SILENT_S) if self._next else 3.0 * _SILENT_S
        with self._there:
            self._there.wait_for(lambda: self._blocks or self._closed.is_set(), patience_s)
            blocks = list(self._blocks)
            self._blocks.clear()
        if self._closed.is_set():
            raise EndOfStream
        if not blocks:
            self._shut()
            raise SourceLost(f"microphone {self._wanted!r} gives nothing any more")
        return self._chunk(blocks)

    def _chunk(self, blocks: list[_Block]) -> Chunk:
        """The blocks up to the first loss; the others wait for the next call."""
        first = self._next
        parts: list[Array] = []
        stamps: list[tuple[int, float]] = []
        for i, block in enumerate(blocks):
            lost = self._lag.lost(block.time_s, len(block.frames))
            if lost and parts:
                self._lag.undo()
                with self._there:
                    self._blocks.extendleft(reversed(blocks[i:]))
                break
            if lost:
                self.n_lost += lost
                first = self._next = self._next + lost
            stamps.append((self._next, block.time_s))
            self._next += len(block.frames)
            parts.append(block.frames)
        data = np.concatenate(parts)
        if data.dtype == np.int16:
            data = data.astype(np.float32) / np.float32(32768.0)
        return Chunk(self._name, self._segment, first, tuple(stamps), data)

    def _open(self) -> None:
        """Open the device; raises SourceLost where it is not there."""
        sd = portaudio()
        with _reopening:
            if self._segment >= 0:  # PortAudio lists devices only when it starts
                sd._terminate()
                sd._initialize()
            about = _find(sd, self._wanted)
            rate_hz = float(self._rate_hz or about["default_samplerate"])
            n_channels = self._n_channels or min(2, int(about["max_input_channels"]))
            try:
                self._device = sd.InputStream(
                    samplerate=rate_hz, blocksize=round(_BLOCK_S * rate_hz),
                    device=about["index"], channels=n_channels, dtype=self._dtype,
                    callback=self._take,
                )  # fmt: skip
                self._segment, self._next, self._lag = self._segment + 1, 0, _Lag(rate_hz)
                names = ("mono",) if n_channels == 1 else _names(n_channels)
                self.info = StreamInfo(self._name, "voice", rate_hz, names, "fs", (n_channels,))
                self._ready_s = self._clock.now() + _WARM_UP_S
                self._device.start()
            except sd.PortAudioError as error:
                self._device = None
                raise SourceLost(
                    f"microphone '{about['name']}' cannot be opened at {rate_hz:g} Hz with "
                    f"{n_channels} channels: {error}; it offers "
                    f"{about['default_samplerate']:g} Hz, {about['max_input_channels']} channels"
                ) from error

    def _shut(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.abort(ignore_errors=True)
            device.close(ignore_errors=True)

    def _take(self, frames: Array, n: int, when: Any, status: Any) -> None:
        """PortAudio's callback, in its own thread."""
        way_s = when.currentTime - when.inputBufferAdcTime
        now_s = self._clock.now()
        taken_s = now_s - (way_s if 0 < way_s < 1 else n / self.info.rate_hz)  # type: ignore[operator]
        if now_s < self._ready_s:
            return
        with self._there:
            self._blocks.append(_Block(frames.copy(), taken_s))
            if len(self._blocks) * _BLOCK_S > _QUEUE_S:
                self._blocks.popleft()  # nobody reads; the clock will tell the loss
            self._there.notify()


class _Lag:
    """How far the frames counted stay behind the clock, and whether that is a loss.

    A delay of delivery makes single blocks late; lost frames make all of them late from then on.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._start_s: float | None = None
        self._n = 0
        self._recent: deque[tuple[float, float]] = deque()
        self._usual_s: float | None = None
        self._before: tuple[Any, ...] = ()

    def lost(self, time_s: float, n: int) -> int:
        """Frames lost before a block of `n` whose first frame was taken at `time_s`."""
        self._before = (self._start_s, self._n, tuple(self._recent), self._usual_s)
        if self._start_s is None:
            self._start_s = time_s
        lag_s = time_s - self._start_s - self._n / self._rate_hz
        self._n += n
        self._recent.append((time_s, lag_s))
        while self._recent[0][0] < time_s - _LOOK_BACK_S:
            self._recent.popleft()
        least_s = min(lag for _, lag in self._recent)
        if self._usual_s is None or least_s < self._usual_s or time_s < self._start_s + _SETTLE_S:
            self._usual_s = least_s
        over_s = least_s - self._usual_s
        if over_s > _LOST_S:
            lost = round(over_s * self._rate_hz)
            self._n += lost
            self._recent.clear()
            return lost
        self._usual_s += _DRIFT * over_s
        return 0

    def undo(self) -> None:
        """Forget the last block: it will come again."""
        self._start_s, self._n, recent, self._usual_s = self._before
        self._recent = deque(recent)


def input_devices() -> list[dict[str, Any]]:
    """{index, name, max_input_channels, default_samplerate} of every microphone there is."""
    return [dict(d) for d in portaudio().query_devices() if d["max_input_channels"] > 0]


def portaudio() -> Any:
    """The module sounddevice; raises ResourceError with the fix where PortAudio is missing."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ResourceError(
            f"microphones need PortAudio: {error}; on Debian: apt install libportaudio2"
        ) from error
    return sounddevice


def _find(sd: Any, wanted: str | int) -> dict[str, Any]:
    devices = [dict(d) for d in sd.query_devices() if d["max_input_channels"] > 0]
    if wanted == "default" and not isinstance(wanted, int):
        index = sd.default.device[0]
        found = [d for d in devices if d["index"] == index] or devices[:1]
    elif isinstance(wanted, int):
        found = [d for d in devices if d["index"] == wanted]
    else:
        found = [d for d in devices if d["name"] == wanted]
        found = found or [d for d in devices if str(wanted).lower() in d["name"].lower()]
    if not found:
        names = ", ".join(f"{d['index']}: {d['name']}" for d in devices) or "none"
        raise SourceLost(f"no microphone {wanted!r}; there are: {names}")
    return found[0]


def _names(n: int) -> tuple[str, ...]:
    return ("left", "right") if n == 2 else tuple(f"{i + 1}" for i in range(n))
