"""Recursive filters as cascades of second-order sections, settled on a segment's first item."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from scipy.signal import butter, group_delay, iirnotch, sosfilt, sosfilt_zi, tf2sos

from engine.errors import ConfigError
from engine.steps.pointwise import NO_NOTES
from engine.types import Array, Notes, StreamInfo

__all__ = ["SosFilter", "bandpass", "by_scipy", "notch"]

_MAX_ORDER = 10
_REST_EVERY = 2048  # items between two looks at the state
_REST_BELOW = 1e-150  # far below what a float32 output can show


class SosFilter:
    """Second-order sections `sos` (sections, 6) over (time, *item), the same bits for any cut.

    The state settles on the first item as if that had stood for ever. Sums are float64, so that
    even float32 subnormals are ordinary numbers in them; only a state that decays for minutes,
    under a dead electrode's exact zeros, would reach float64's subnormals, which some processors
    add a hundred times slower. Every 2048th item of a segment sets what fell below 1e-150 to 0:
    at fixed items, hence however the stream is cut.
    """

    ratio = Fraction(1)

    def __init__(self, info: StreamInfo, sos: Array, delay_s: float) -> None:
        self.info = info
        self.delay_s = delay_s
        self._sos = np.ascontiguousarray(sos, np.float64)
        self._settled = sosfilt_zi(self._sos)[None]  # (1, sections, 2) of a constant 1
        self.reset()

    def reset(self) -> None:
        """Settle again on the next item."""
        self._state: Array | None = None  # (channels, sections, 2)
        self._n_left = 0  # items until the next look at the state

    def followed_by(self, other: SosFilter) -> SosFilter:
        """Both filters as one cascade, at the cost of one call."""
        sos = np.concatenate((self._sos, other._sos))
        return SosFilter(other.info, sos, self.delay_s + other.delay_s)

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        n = len(x)
        if 0 < n <= self._n_left:
            self._n_left -= n
            return self._filter(x), valid, NO_NOTES
        return self._in_blocks(x), valid, NO_NOTES

    def _in_blocks(self, x: Array) -> Array:
        """The same, with a rest of the state wherever it is due."""
        out = np.empty(x.shape, np.float32)
        done = 0
        while done < len(x):
            if self._state is None:
                first = x[0].reshape(-1, 1, 1).astype(np.float64)
                self._state = np.ascontiguousarray(self._settled * first)
                self._n_left = _REST_EVERY
            elif self._n_left == 0:
                self._state[np.abs(self._state) < _REST_BELOW] = 0.0
                self._n_left = _REST_EVERY
            n = min(len(x) - done, self._n_left)
            out[done : done + n] = self._filter(x[done : done + n])
            done += n
            self._n_left -= n
        return out

    def _filter(self, x: Array) -> Array:
        """(time, *item), at least one item -> float32 of the same shape; moves the state on."""
        rows = np.array(x.reshape(len(x), -1).T, np.float64, order="C")  # (channels, time)
        _KERNEL(self._sos, rows, self._state)
        return np.array(rows.T, np.float32, order="C").reshape(x.shape)


def by_scipy(sos: Array, x: Array, state: Array | None) -> None:
    """Filter `x` (channels, time) and move `state` (channels, sections, 2) on, both in place."""
    assert state is not None
    y, moved = sosfilt(sos, x, axis=1, zi=state.transpose(1, 0, 2))
    x[:], state[:] = y, moved.transpose(1, 0, 2)


def _kernel() -> Callable[[Array, Array, Array | None], None]:
    """What `sosfilt` itself calls, without the checks that it repeats for every chunk.

    They cost twice what the filtering does. The function is scipy's own and private: where it is
    not there, or does not give the same bits, the public one is used.
    """
    try:
        from scipy.signal._sosfilt import _sosfilt
    except ImportError:
        return by_scipy
    rng = np.random.default_rng(0)
    sos = butter(2, (0.1, 0.4), "bandpass", output="sos")
    x, state = rng.normal(size=(3, 17)), rng.normal(size=(3, 2, 2))
    expected, expected_state = x.copy(), state.copy()
    by_scipy(sos, expected, expected_state)
    try:
        _sosfilt(sos, x, state)
    except (TypeError, ValueError):
        return by_scipy
    same = np.array_equal(x, expected) and np.array_equal(state, expected_state)
    kernel: Callable[[Array, Array, Array | None], None] = _sosfilt
    return kernel if same else by_scipy


_KERNEL = _kernel()


def bandpass(info: StreamInfo, *, low_hz: float, high_hz: float, order: int = 4) -> SosFilter:
    """Butterworth band-pass with its -3 dB edges at `low_hz` and `high_hz`.

    `order` counts as scipy's does: the slopes fall with 6 * order dB per octave on either side.
    Raises ConfigError if the edges do not fit the rate.
    """
    rate_hz = _rate_hz(info, "bandpass")
    if not 0 < low_hz < high_hz < rate_hz / 2:
        raise ConfigError(
            f"bandpass {low_hz:g}-{high_hz:g} Hz does not fit a {rate_hz:g} Hz stream: "
            f"need 0 < low_hz < high_hz < {rate_hz / 2:g}"
        )
    if not 1 <= order <= _MAX_ORDER:
        raise ConfigError(f"bandpass: order must be 1 to {_MAX_ORDER}, not {order}")
    sos = butter(order, (low_hz, high_hz), "bandpass", fs=rate_hz, output="sos")
    return SosFilter(info, sos, _delay_s(sos, math.sqrt(low_hz * high_hz), rate_hz))


def notch(info: StreamInfo, *, freq_hz: float, q: float = 30.0) -> SosFilter:
    """Takes out `freq_hz` (the mains: 50 or 60); the gap is freq_hz / q wide at -3 dB.

    `delay_s` is that of the pass band's middle below the gap, at freq_hz / 2. Raises ConfigError
    if the frequency does not fit the rate.
    """
    rate_hz = _rate_hz(info, "notch")
    if not 0 < freq_hz < rate_hz / 2:
        raise ConfigError(
            f"notch at {freq_hz:g} Hz does not fit a {rate_hz:g} Hz stream: "
            f"need 0 < freq_hz < {rate_hz / 2:g}"
        )
    if not 0.5 <= q <= 1000:
        raise ConfigError(f"notch: q must be 0.5 to 1000, not {q:g}")
    sos = tf2sos(*iirnotch(freq_hz, q, fs=rate_hz))
    return SosFilter(info, sos, _delay_s(sos, freq_hz / 2, rate_hz))


def _delay_s(sos: Array, freq_hz: float, rate_hz: float) -> float:
    """The cascade's group delay at `freq_hz`: the sum over its sections."""
    delays = (group_delay((s[:3], s[3:]), [freq_hz], fs=rate_hz)[1][0] for s in sos)
    return float(sum(delays)) / rate_hz


def _rate_hz(info: StreamInfo, step: str) -> float:
    if info.rate_hz is None:
        raise ConfigError(f"{step} needs a regular stream; {info.name!r} has no fixed rate")
    return info.rate_hz
