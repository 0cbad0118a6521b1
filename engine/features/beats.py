"""Where the heart beats in a window of a pulse wave or an ECG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import butter, sosfiltfilt

from engine.errors import ConfigError
from engine.features.trend import filled, mean_around
from engine.types import Array

__all__ = ["WAVES", "BeatFinder", "Wave", "intervals"]

_SHORTEST_S, _LONGEST_S = 0.3, 2.0  # an interval beyond them is no heart's at rest or exercise
_ODD_ONE_OUT = 0.25  # how far an interval may be off the median around it
_AROUND = 9  # intervals that are looked at for that median
_SETTLE = 3.0  # periods of the band's lower edge that the filter gets before and behind a window
_ROUNDING = 1e-6  # of the largest value: what float32 leaves of a straight line


@dataclass(frozen=True, slots=True)
class Wave:
    """What tells a beat in one kind of signal: the band, the lengths of a peak and of a beat."""

    low_hz: float
    high_hz: float
    peak_s: float
    beat_s: float
    offset: float  # share of the mean energy
    upward: bool  # only what lies above zero belongs to a beat
    loud: tuple[float, float]  # so often this quantile of the absolute values a knock counts as


# Elgendi and others 2013 (PLoS ONE 8:e76585) for the pulse wave, Elgendi 2013 (PLoS ONE 8:e73557)
# for the ECG: the band of the filter, both moving averages and the offset between them.
WAVES: Mapping[str, Wave] = {
    "pulse": Wave(0.5, 8.0, 0.111, 0.667, 0.02, True, (5.0, 0.5)),
    "ecg": Wave(8.0, 20.0, 0.097, 0.611, 0.08, False, (3.0, 0.95)),
}


class BeatFinder:
    """Finds beats by two moving averages of the energy, one peak long and one beat long (Elgendi).

    Where the short one is the higher for at least a peak's length, the largest value is a beat; of
    two beats less than 0.3 s apart the larger one stays. What is far louder than the rest, a knock
    on the sensor, counts as just loud, or no beat would be seen beside it. Looks at the whole
    window at once and filters it without phase. Raises ConfigError for a rate that does not hold
    the wave's band.
    """

    def __init__(self, wave: str, rate_hz: float) -> None:
        told = WAVES.get(wave)
        if told is None:
            raise ConfigError(f"wave is {wave!r}; choose one of {', '.join(WAVES)}")
        if rate_hz < 2.5 * told.high_hz:
            raise ConfigError(
                f"beats of a wave {wave!r} need {2.5 * told.high_hz:g} Hz or more; the stream has "
                f"{rate_hz:g} Hz"
            )
        self._wave, self._rate_hz = told, rate_hz
        self._sos = butter(2, (told.low_hz, told.high_hz), "bandpass", fs=rate_hz, output="sos")
        self._n_settle = round(_SETTLE * rate_hz / told.low_hz)
        self._n_peak, self._n_beat = (
            2 * round(s * rate_hz / 2) + 1 for s in (told.peak_s, told.beat_s)
        )

    def __call__(self, x: Array, valid: Array) -> Array:
        """(time,) of which at least two are valid -> the beats' places (beats,) in items, between
        them where a parabola has its top. Invalid items are bridged by straight lines."""
        whole = filled(x, valid)
        y = sosfiltfilt(self._sos, whole - whole.mean(), padlen=min(len(x) - 1, self._n_settle))
        times, quantile = self._wave.loud
        limit = times * np.quantile(np.abs(y), quantile)
        if not limit > _ROUNDING * np.abs(whole).max():
            return np.empty(0)
        height = np.maximum(y, 0.0) if self._wave.upward else np.abs(y)
        energy = np.minimum(height, limit) ** 2
        floor = self._wave.offset * energy.mean()
        busy = mean_around(energy, self._n_peak) > mean_around(energy, self._n_beat) + floor
        edges = np.flatnonzero(np.diff(np.concatenate(([False], busy, [False])).astype(np.int8)))
        tops = [
            a + int(np.argmax(height[a:b]))
            for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
            if b - a >= self._n_peak
        ]
        return _between_items(height, np.array(self._apart(tops, height), np.int64))

    def _apart(self, tops: list[int], height: Array) -> list[int]:
        kept: list[int] = []
        for top in tops:
            if kept and top - kept[-1] < _SHORTEST_S * self._rate_hz:
                if height[top] > height[kept[-1]]:
                    kept[-1] = top
            else:
                kept.append(top)
        return kept


def intervals(beats_s: Array, unbroken: Array) -> tuple[Array, Array]:
    """The intervals between beats in seconds, and whether each is a normal one: (beats - 1,) each.

    Normal is one of 0.3 to 2 s, `unbroken` (beats - 1,) by invalid items, that is off the median
    of the nine around it by at most a quarter: ectopic, missed and invented beats are left out.
    """
    found = np.diff(beats_s)
    normal = unbroken & (found >= _SHORTEST_S) & (found <= _LONGEST_S)
    if normal.any():
        middle = median_filter(found[normal], _AROUND, mode="nearest")
        normal[normal] = np.abs(found[normal] - middle) <= _ODD_ONE_OUT * middle
    return found, normal


def _between_items(height: Array, at: Array) -> Array:
    """The tops (beats,) of the parabolas through the items `at` and their neighbours."""
    inner = (at > 0) & (at < len(height) - 1)
    left, top, right = (height[np.clip(at + k, 0, len(height) - 1)] for k in (-1, 0, 1))
    bend = left - 2 * top + right
    shift = np.where(inner & (bend < 0), 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    places: Array = at + np.clip(shift, -0.5, 0.5)
    return places
