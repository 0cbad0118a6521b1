"""Changing the rate: a causal polyphase resampler on an integer grid."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from scipy.signal import firwin, upfirdn

from engine.errors import ConfigError
from engine.steps.pointwise import NO_NOTES
from engine.types import Array, Notes, StreamInfo

__all__ = ["Resample"]

_MAX_FACTOR = 1000  # of up and down; a larger one means thousands of taps per output
_RATIO_TOLERANCE = 1e-9  # relative: one item in a billion
_KAISER_BETA = 5.0
_HALF_LENGTH = 10  # times the larger factor


class Resample:
    """Brings (time, *item) to `rate_hz` by up / down, the same bits for any cut.

    The low-pass is that of `scipy.signal.resample_poly`: linear phase, a Kaiser window of beta 5,
    over 50 dB down well beyond the lower of both Nyquist frequencies. Output m stands at input
    time m * down / up and comes as soon as input ceil(m * down / up) is there, so n inputs make
    (n - 1) * up // down + 1 outputs; the delay is in the signal. Before its first item a segment
    is taken to have stood on that item's value, so that an offset does not ring. An output is
    valid if all inputs since the output before it are. Raises ConfigError for a ratio that is no
    fraction of whole numbers up to 1000.
    """

    def __init__(self, info: StreamInfo, *, rate_hz: float) -> None:
        self.ratio = _ratio(info, rate_hz)
        self.info = replace(info, rate_hz=rate_hz)
        self._up, self._down = self.ratio.numerator, self.ratio.denominator
        larger = max(self._up, self._down)
        half = _HALF_LENGTH * larger if larger > 1 else 0
        assert info.rate_hz is not None  # or there would be no ratio
        self.delay_s = half / (info.rate_hz * self._up)
        self._taps = np.ones(1)
        if half:
            low_pass = firwin(2 * half + 1, 1 / larger, window=("kaiser", _KAISER_BETA))
            self._taps = low_pass * self._up
        # The inputs before an output's own that it is made of, in whole turns of the phases.
        self._n_past = -(-2 * half // (self._up * self._down)) * self._down
        self.reset()

    def reset(self) -> None:
        """Begin a new segment with the next item."""
        self._past: Array | None = None  # (time, *item) float64: all that outputs still need
        self._mask = np.ones(self._n_past, bool)  # (time,) whether those are valid
        self._start = -self._n_past  # the input index of their first, a multiple of down
        self._n_in = self._n_out = 0

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        if self.ratio == 1 or not len(x):
            return x, valid, NO_NOTES
        if self._past is None:
            self._past = np.repeat(x[:1].astype(np.float64), self._n_past, axis=0)
        self._past = np.concatenate((self._past, x))
        self._mask = np.concatenate((self._mask, valid))
        self._n_in += len(x)
        due = (self._n_in - 1) * self._up // self._down + 1
        if due == self._n_out:
            return np.empty((0, *x.shape[1:]), np.float32), valid[:0], NO_NOTES
        y = upfirdn(self._taps, self._past, self._up, self._down, axis=0)
        at = self._start * self._up // self._down  # the number of the output that y begins with
        made = y[self._n_out - at : due - at].astype(np.float32)
        marks = self._marks(due)
        self._forget(due)
        return made, marks, NO_NOTES

    def _marks(self, due: int) -> Array:
        """Whether each output from the last one made up to `due` is valid: (outputs,)."""
        if self._mask.all():
            return np.ones(due - self._n_out, bool)
        m = np.arange(self._n_out, due)
        first = (m - 1) * self._down // self._up + 1 - self._start
        last = -(-m * self._down // self._up) - self._start
        n_bad = np.concatenate(([0], np.cumsum(~self._mask)))
        marks: Array = n_bad[last + 1] == n_bad[first]
        return marks

    def _forget(self, due: int) -> None:
        """Drop the inputs that no output from `due` on is made of, in whole turns."""
        assert self._past is not None
        self._n_out = due
        oldest = -((len(self._taps) - 1 - due * self._down) // self._up)
        n = oldest // self._down * self._down - self._start
        if n > 0:
            self._start += n
            self._past, self._mask = self._past[n:].copy(), self._mask[n:].copy()


def _ratio(info: StreamInfo, rate_hz: float) -> Fraction:
    """rate_hz / info.rate_hz in whole numbers up to 1000."""
    if info.rate_hz is None:
        raise ConfigError(f"resample needs a regular stream; {info.name!r} has no fixed rate")
    if not 0 < rate_hz < float("inf"):
        raise ConfigError(f"resample: rate_hz must be above 0, not {rate_hz:g}")
    exact = Fraction(rate_hz) / Fraction(info.rate_hz)
    flip = exact > 1
    near = (1 / exact if flip else exact).limit_denominator(_MAX_FACTOR)
    if near == 0:
        raise ConfigError(
            f"resample {info.rate_hz:.12g} to {rate_hz:.12g} Hz: the rates are more than "
            f"{_MAX_FACTOR} times apart; resample in two steps"
        )
    ratio = 1 / near if flip else near
    if abs(ratio / exact - 1) > _RATIO_TOLERANCE:
        raise ConfigError(
            f"resample {info.rate_hz:.12g} to {rate_hz:.12g} Hz: the ratio is no fraction of whole "
            f"numbers up to {_MAX_FACTOR}; the nearest rate that is: "
            f"{float(Fraction(info.rate_hz) * ratio):.12g} Hz"
        )
    return ratio
