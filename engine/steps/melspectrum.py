"""Log-mel frames of a voice stream: one short spectrum per hop, each computed once."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import scipy.fft
from scipy.signal import get_window

from engine.errors import ConfigError
from engine.steps.pointwise import NO_NOTES
from engine.types import Array, Notes, StreamInfo

__all__ = ["LOG_POWER", "LogMel"]

LOG_POWER = "ln fs^2"  # the unit: the natural logarithm of a power, full scale being 1
_MAX_MELS = 512
_MAX_WINDOW = 1 << 16  # samples
_ROUNDING = 1e-6  # samples: how far hop_s may fall beside the sample that it means
_BLOCK = 64  # frames computed at once: they stay in the cache, however long a chunk is
# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, then 27 mels per factor 6.4.
_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


class LogMel:
    """(time, 1) samples to (frames, n_mels): ln(mel power + floor), every `hop_s`.

    Frame m stands at sample m * hop, the last of the `window_s` that it sees, and comes with that
    sample. Before its first item a segment is taken to have stood on that item's value; frames
    that reach there are invalid, as are those with an invalid sample. The power is that of a
    periodic Hann window, zero-padded to a power of two; the bands are triangles of equal area on
    Slaney's mel scale from `low_hz` to `high_hz` (half the rate if not given): the values of
    `librosa.feature.melspectrogram` with its defaults. `floor` is a power; 1e-10 lies below the
    noise of 16 bit. Sums are float64 and of a fixed order: the same bits for any cut. Raises
    ConfigError for a stream of several channels, a hop of no whole number of samples, and bands
    that do not fit.
    """

    def __init__(
        self,
        info: StreamInfo,
        *,
        n_mels: int = 64,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        low_hz: float = 50.0,
        high_hz: float | None = None,
        floor: float = 1e-10,
    ) -> None:
        rate_hz = _rate_hz(info)
        if not 0 < floor < math.inf:
            raise ConfigError(f"log_mel: floor must be a power above 0, not {floor:g}")
        self._hop, self._n = _hop(hop_s, rate_hz), _window(window_s, rate_hz)
        self._n_fft = 1 << (self._n - 1).bit_length()
        self._taper: Array = get_window("hann", self._n).astype(np.float64)
        top_hz = rate_hz / 2 if high_hz is None else high_hz
        bands = _bands(n_mels, low_hz, top_hz, rate_hz, self._n_fft)
        # Triangles two apart do not overlap: the even ones are one row of weights that is cut
        # where they begin, the odd ones another.
        self._begin = (bands > 0).argmax(axis=0)  # (n_mels,) the first bin of each
        self._weights = [bands[:, k::2].sum(axis=1) for k in range(min(2, n_mels))]  # (bins,)
        self._floor = floor
        self.ratio = Fraction(1, self._hop)
        self.delay_s = (self._n - 1) / 2 / rate_hz
        self.info = replace(
            info,
            rate_hz=rate_hz / self._hop,
            channels=tuple(f"mel-{k}" for k in range(n_mels)),
            unit=LOG_POWER,
            shape=(n_mels,),
        )
        self.reset()

    def reset(self) -> None:
        """Begin a new segment with the next item."""
        self._past: Array | None = None  # (time,) float32: what the next frame sees of the past
        self._mask = np.zeros(self._n - 1, bool)  # (time,) whether those are valid

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        if not len(x):
            return np.empty((0, *self.info.shape), np.float32), valid, NO_NOTES
        if self._past is None:
            self._past = np.repeat(x[:1, 0], self._n - 1)
        past = np.concatenate((self._past, x[:, 0]))
        mask = np.concatenate((self._mask, valid))
        n_frames = max(0, (len(past) - self._n) // self._hop + 1)
        done = n_frames * self._hop  # where the next frame begins
        self._past, self._mask = past[done:], mask[done:]
        frames = np.empty((n_frames, *self.info.shape), np.float32)
        if not n_frames:
            return frames, valid[:0], NO_NOTES
        step = past.itemsize
        windows: Array = np.ndarray(
            (n_frames, self._n), past.dtype, past, strides=(self._hop * step, step)
        )
        for at in range(0, n_frames, _BLOCK):
            frames[at : at + _BLOCK] = self._spectra(windows[at : at + _BLOCK])
        return frames, _all_valid(mask, self._n, self._hop, n_frames), NO_NOTES

    def _spectra(self, windows: Array) -> Array:
        """(frames, window) samples to (frames, n_mels)."""
        spectrum = scipy.fft.rfft(windows * self._taper, self._n_fft)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        mel = np.empty((len(windows), *self.info.shape))
        for k, weights in enumerate(self._weights):
            # adds row by row, in the same order for one row and for many; a product does not
            mel[:, k::2] = np.add.reduceat(power * weights, self._begin[k::2], axis=1)
        mel += self._floor
        return np.log(mel, out=mel)


def _all_valid(mask: Array, n: int, hop: int, n_frames: int) -> Array:
    """Whether all `n` samples of each frame are valid: (frames,)."""
    if mask.all():
        return np.ones(n_frames, bool)
    n_bad = np.concatenate(([0], np.cumsum(~mask)))
    first = np.arange(n_frames) * hop
    marks: Array = n_bad[first + n] == n_bad[first]
    return marks


def _bands(n_mels: int, low_hz: float, high_hz: float, rate_hz: float, n_fft: int) -> Array:
    """The weights (bins, n_mels) of triangles with 50 % overlap, each of area 1 in Hz."""
    if not 1 <= n_mels <= _MAX_MELS:
        raise ConfigError(f"log_mel: n_mels must be 1 to {_MAX_MELS}, not {n_mels}")
    if not 0 <= low_hz < high_hz <= rate_hz / 2:
        raise ConfigError(
            f"log_mel {low_hz:g}-{high_hz:g} Hz does not fit a {rate_hz:g} Hz stream: "
            f"need 0 <= low_hz < high_hz <= {rate_hz / 2:g}"
        )
    edges_hz = _hz(np.linspace(_mel(low_hz), _mel(high_hz), n_mels + 2))
    bins_hz = np.arange(n_fft // 2 + 1)[:, None] * (rate_hz / n_fft)
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    weights: Array = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(~weights.any(axis=0))
    if len(empty):
        k = int(empty[0])
        raise ConfigError(
            f"log_mel: band {k} ({edges_hz[k]:.0f}-{edges_hz[k + 2]:.0f} Hz) is narrower than "
            f"the spectrum resolves ({rate_hz / n_fft:g} Hz); use fewer than {n_mels} mels, a "
            "longer window or a higher low_hz"
        )
    return weights * (2.0 / (edges_hz[2:] - edges_hz[:-2]))


def _mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _HZ_PER_MEL
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _hz(mels: Array) -> Array:
    above = np.exp(_LOG_STEP * (np.maximum(mels, _BREAK_MEL) - _BREAK_MEL)) * _BREAK_HZ
    return np.where(mels < _BREAK_MEL, mels * _HZ_PER_MEL, above)


def _hop(hop_s: float, rate_hz: float) -> int:
    """The hop in whole samples."""
    hop = round(hop_s * rate_hz) if 0 < hop_s < math.inf else 0
    if hop < 1 or abs(hop - hop_s * rate_hz) > _ROUNDING:
        raise ConfigError(
            f"log_mel: hop_s {hop_s:g} is {hop_s * rate_hz:g} samples at {rate_hz:g} Hz; need a "
            f"whole number of them, such as {max(hop, 1) / rate_hz:.6g} s, or resample first"
        )
    return hop


def _window(window_s: float, rate_hz: float) -> int:
    """The window in samples, rounded."""
    n = round(window_s * rate_hz) if 0 < window_s < math.inf else 0
    if not 2 <= n <= _MAX_WINDOW:
        raise ConfigError(
            f"log_mel: window_s {window_s:g} is {window_s * rate_hz:g} samples at {rate_hz:g} Hz; "
            f"need 2 to {_MAX_WINDOW}"
        )
    return n


def _rate_hz(info: StreamInfo) -> float:
    if info.rate_hz is None:
        raise ConfigError(f"log_mel needs a regular stream; {info.name!r} has no fixed rate")
    if info.shape != (1,):
        raise ConfigError(
            f"log_mel needs one channel; stream {info.name!r} has {len(info.channels)} "
            f"({', '.join(info.channels[:4])}); downmix or select one first"
        )
    return info.rate_hz
