"""Skin conductance over a window: its slow level, and the responses on top of it."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import median_filter

from engine.errors import ConfigError
from engine.features.demands import last_items, need_channels
from engine.features.trend import filled, mean_and_slope, mean_around
from engine.types import Array, StreamInfo

__all__ = ["SkinConductance"]

_TONIC = ("level", "slope")
_PHASIC = ("responses", "amplitude", "phasic-std")
_SMOOTH_S = 1.0  # shorter than a response rises (1 to 3 s, Boucsein 2012)


class SkinConductance:
    """Tonic level and slope, phasic responses: how many a second, how high, how much it varies.

    The signal is smoothed by a moving mean of 1 s. Its tonic part is the moving median of
    `tonic_s`, the phasic part what is left; `level` and `slope` (a second) are those of the
    straight line through the tonic part. A response is a rise from a trough to the next peak by
    `least_rise` or more once that line is taken away, so that a drift is none; `amplitude` is the
    mean rise, 0 without any. `phasic-std` is the standard deviation of the phasic part. All are in
    the stream's unit, usually uS. Invalid items are bridged by straight lines and belong to no
    rise. `level: false` leaves the tonic measures out. `last_s` looks at the end of the window
    only.
    """

    def __init__(
        self,
        info: StreamInfo,
        n_items: int,
        *,
        least_rise: float = 0.01,
        tonic_s: float = 8.0,
        level: bool = True,
        last_s: float | None = None,
    ) -> None:
        need_channels("skin_conductance", info)
        if info.shape != (1,) or info.rate_hz is None or info.rate_hz < 2:
            raise ConfigError(
                f"skin_conductance needs one channel at 2 Hz or more; stream {info.name!r} has "
                f"{len(info.channels)} at {info.rate_hz or 0:g} Hz"
            )
        if not 0 < least_rise < math.inf:
            raise ConfigError(f"skin_conductance: least_rise must be above 0, not {least_rise:g}")
        self._n_last = last_items("skin_conductance", info, n_items, last_s)
        window_s = self._n_last / info.rate_hz
        if not _SMOOTH_S < tonic_s <= window_s:
            raise ConfigError(
                f"skin_conductance: tonic_s must be {_SMOOTH_S:g} to the window's {window_s:g}, "
                f"not {tonic_s:g}"
            )
        self._rate_hz, self._level, self._least_rise = info.rate_hz, level, least_rise
        self._n_smooth, self._n_tonic = (2 * int(s * info.rate_hz / 2) + 1 for s in
                                         (_SMOOTH_S, tonic_s))  # fmt: skip
        measures = (*(_TONIC if level else ()), *_PHASIC)
        self.names = tuple(f"{info.channels[0]}.{measure}" for measure in measures)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, 1), (n_items,) -> (5,), without the level (3,)."""
        x, valid = window[-self._n_last :, 0], np.array(valid[-self._n_last :])
        if not valid.any():
            return np.zeros(len(self.names), np.float32)
        smooth = mean_around(filled(x, valid), self._n_smooth)
        tonic = median_filter(smooth, self._n_tonic, mode="nearest")
        level, slope = mean_and_slope(tonic, valid, self._rate_hz)
        rises = self._rises(smooth - slope * np.arange(len(smooth)) / self._rate_hz, valid)
        phasic = (
            len(rises) * self._rate_hz / np.count_nonzero(valid),
            float(np.mean(rises)) if len(rises) else 0.0,
            float(np.std((smooth - tonic)[valid])),
        )
        return np.array([*((level, slope) if self._level else ()), *phasic], np.float32)

    def _rises(self, x: Array, valid: Array) -> Array:
        """How high each response is, from its trough to its peak."""
        moves = np.flatnonzero(np.diff(x))  # item j moves to j + 1
        up = np.diff(x)[moves] > 0
        turns = np.flatnonzero(np.diff(up.astype(np.int8)))
        corners = np.concatenate(([0], moves[turns + 1], [len(x) - 1]))
        heights = np.diff(x[corners])
        n_bad = np.concatenate(([0], np.cumsum(~valid)))
        whole = n_bad[corners[1:] + 1] == n_bad[corners[:-1]]
        responses: Array = heights[whole & (heights >= self._least_rise)]
        return responses
