"""Heart rate and its variability over a window of a pulse wave or an ECG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import periodogram

from engine.errors import ConfigError
from engine.features.beats import BeatFinder, intervals
from engine.features.demands import last_items
from engine.types import Array, StreamInfo

__all__ = ["HeartRateVariability"]

_IN_TIME = ("rate", "sdnn", "rmssd", "pnn50")
_IN_FREQUENCY = ("lf", "hf", "lf-share")
_SHORTEST_S, _FOR_BANDS_S = 5.0, 60.0
_FEWEST = 3  # normal intervals
_NN50_S = 0.050
_LF_HZ, _HF_HZ = (0.04, 0.15), (0.15, 0.4)
_GRID_HZ = 4.0  # of the intervals as an even series
_LEAST_COVERED = 0.5  # of the window, by that series: below it the low band is not there


class HeartRateVariability:
    """Measures of the intervals between normal beats, and the share of the window they fill.

    `rate` in beats per second, of the median interval; SDNN, RMSSD in seconds and pNN50 as a
    share, after the Task Force of the ESC and NASPE (1996); differences count between intervals
    that follow one another. A window of 60 s or more also gives the power of the intervals at 0.04
    to 0.15 Hz, `lf`, and at 0.15 to 0.4 Hz, `hf`, in s^2, and `lf-share`, lf / (lf + hf): a
    periodogram (Hann, trend removed) of the intervals interpolated at 4 Hz. `quality` is the time
    covered by normal intervals over that of the window. Beats are those of `BeatFinder` for the
    `wave` pulse or ecg. With fewer than three normal intervals all is 0. `measures` names those
    that are wanted; `last_s` looks at the end of the window only.
    """

    def __init__(
        self,
        info: StreamInfo,
        n_items: int,
        *,
        wave: str = "pulse",
        measures: Sequence[str] | None = None,
        last_s: float | None = None,
    ) -> None:
        if info.shape != (1,) or info.rate_hz is None:
            raise ConfigError(
                f"heart_rate_variability needs one channel of a regular stream; {info.name!r} has "
                f"{len(info.channels)} at {info.rate_hz or 0:g} Hz"
            )
        self._n_last = last_items("heart_rate_variability", info, n_items, last_s)
        self._rate_hz, self._window_s = info.rate_hz, self._n_last / info.rate_hz
        if self._window_s < _SHORTEST_S:
            raise ConfigError(
                f"heart_rate_variability needs {_SHORTEST_S:g} s or more, not {self._window_s:g}"
            )
        try:
            self._find = BeatFinder(wave, info.rate_hz)
        except ConfigError as error:
            raise ConfigError(f"heart_rate_variability: {error}") from error
        self._with_bands = self._window_s >= _FOR_BANDS_S
        known = (*_IN_TIME, *(_IN_FREQUENCY if self._with_bands else ()), "quality")
        wanted = known if measures is None else tuple(measures)
        if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(known):
            raise ConfigError(
                f"heart_rate_variability: measures {', '.join(map(str, wanted)) or 'are none'}; "
                f"choose from {', '.join(known)}, for a window of {self._window_s:g} s"
            )
        self._n, self._rows = len(known), [known.index(measure) for measure in wanted]
        self.names = tuple(f"{info.channels[0]}.{measure}" for measure in wanted)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, 1), (n_items,) -> (5,), from 60 s on (8,), or as many as `measures`."""
        x = np.array(window[-self._n_last :, 0], np.float64)
        found = self._all(x, np.array(valid[-self._n_last :]))
        return found[self._rows].astype(np.float32)

    def _all(self, x: Array, valid: Array) -> Array:
        out = np.zeros(self._n)
        if np.count_nonzero(valid) < _SHORTEST_S * self._rate_hz:
            return out
        places = self._find(x, valid)
        if len(places) <= _FEWEST:
            return out
        n_bad = np.concatenate(([0], np.cumsum(~valid)))
        near = np.rint(places).astype(np.int64)
        unbroken = n_bad[near[1:] + 1] == n_bad[near[:-1]]
        beats_s = places / self._rate_hz
        found, normal = intervals(beats_s, unbroken)
        if np.count_nonzero(normal) < _FEWEST:
            return out
        out[:4] = _in_time(found, normal)
        if self._with_bands:
            out[4:7] = self._in_frequency(beats_s[1:][normal], found[normal])
        out[-1] = min(1.0, found[normal].sum() / self._window_s)
        return out

    def _in_frequency(self, ends_s: Array, kept: Array) -> tuple[float, float, float]:
        """lf, hf, lf / (lf + hf) of the intervals (n,) that end at `ends_s` (n,)."""
        if ends_s[-1] - ends_s[0] < _LEAST_COVERED * self._window_s:
            return 0.0, 0.0, 0.0
        grid_s = np.arange(ends_s[0], ends_s[-1], 1.0 / _GRID_HZ)
        series = np.interp(grid_s, ends_s, kept)
        at_hz, density = periodogram(series, _GRID_HZ, "hann", detrend="linear")
        lf, hf = (
            float(density[(at_hz >= low) & (at_hz < high)].sum() * at_hz[1])
            for low, high in (_LF_HZ, _HF_HZ)
        )
        return lf, hf, lf / (lf + hf) if lf + hf > 0 else 0.0


def _in_time(found: Array, normal: Array) -> tuple[float, float, float, float]:
    """rate, sdnn, rmssd, pnn50 of the normal ones of the intervals (n,)."""
    kept = found[normal]
    steps = np.diff(found)[normal[1:] & normal[:-1]]
    rmssd, pnn50 = 0.0, 0.0
    if len(steps):
        rmssd = float(np.sqrt(np.mean(steps**2)))
        pnn50 = float(np.mean(np.abs(steps) > _NN50_S))
    return float(1.0 / np.median(kept)), float(kept.std(ddof=1)), rmssd, pnn50
