"""Heart rate and its variability, out of a pulse wave."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

from engine.errors import ConfigError
from engine.features.demands import last_items, need_channels
from engine.types import Array, StreamInfo

__all__ = ["PulseRate"]

_MEASURES = ("rate", "sdnn", "rmssd", "amplitude", "amplitude-change")
_SLOWEST_HZ, _FASTEST_HZ = 0.6, 3.2  # 36 to 192 beats a minute


class PulseRate:
    """Beats per second, deviations of the beat intervals in seconds, and the beats' amplitude.

    Beats are the peaks that stand out by half a standard deviation, at most 3.2 a second;
    intervals off their median by over 30 % are left out (ectopic or missed beats). SDNN and
    RMSSD are those of the Task Force of the ESC and NASPE (1996), over the window. Invalid items
    count as the mean of the valid ones. A window with fewer than three beats is all 0. `last_s`
    looks at the end of the window only.
    """

    def __init__(self, info: StreamInfo, n_items: int, *, last_s: float | None = None) -> None:
        need_channels("pulse_rate", info)
        if info.shape != (1,) or info.rate_hz is None or info.rate_hz < 8 * _FASTEST_HZ:
            raise ConfigError(
                f"pulse_rate needs one channel at {8 * _FASTEST_HZ:g} Hz or more; stream "
                f"{info.name!r} has {len(info.channels)} at {info.rate_hz or 0:g} Hz"
            )
        self._n_last = last_items("pulse_rate", info, n_items, last_s)
        self._rate_hz = info.rate_hz
        self.names = tuple(f"{info.channels[0]}.{measure}" for measure in _MEASURES)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, 1), (n_items,) -> (5,)."""
        x = np.array(window[-self._n_last :, 0], np.float64)
        valid = valid[-self._n_last :]
        out = np.zeros(len(_MEASURES), np.float32)
        if not valid.any():
            return out
        x[~valid] = x[valid].mean()
        x -= x.mean()
        distance = max(1.0, self._rate_hz / _FASTEST_HZ)
        peaks, about = find_peaks(x, distance=distance, prominence=0.5 * x.std() + 1e-12)
        gaps_s = np.diff(peaks) / self._rate_hz
        if len(gaps_s) < 2:
            return out
        middle = np.median(gaps_s)
        regular = np.abs(gaps_s - middle) <= 0.3 * middle
        kept = gaps_s[regular] if regular.any() else gaps_s
        kept = np.minimum(kept, 1.0 / _SLOWEST_HZ)
        heights = about["prominences"]
        steps = np.diff(kept)
        out[0] = 1.0 / kept.mean()
        out[1] = kept.std()
        out[2] = np.sqrt(np.mean(steps**2)) if len(steps) else 0.0
        out[3] = heights.mean()
        out[4] = heights.std()
        return out
