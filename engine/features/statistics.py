"""Moments and extremes of a window."""

from __future__ import annotations

import numpy as np

from engine.features.demands import last_items, need_channels
from engine.types import Array, StreamInfo

__all__ = ["Statistics"]

_MEASURES = ("mean", "std", "min", "max", "skew", "kurtosis", "difference")


class Statistics:
    """Mean, standard deviation, extremes, skew, excess kurtosis and mean absolute first difference.

    Per channel, over valid items; a difference counts where both of its neighbours are valid. The
    moments are the population's (divided by n), as scipy.stats gives them. A constant channel has
    skew and kurtosis 0; a window with no valid item is all 0. Names are channel-major. `last_s`
    looks at the end of the window only.
    """

    def __init__(self, info: StreamInfo, n_items: int, *, last_s: float | None = None) -> None:
        need_channels("statistics", info)
        self._n_last = last_items("statistics", info, n_items, last_s)
        self.names = tuple(f"{c}.{measure}" for c in info.channels for measure in _MEASURES)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, channels), (n_items,) -> (channels * 7,)."""
        window, valid = window[-self._n_last :], valid[-self._n_last :]
        full = bool(valid.all())
        x = np.array(window if full else window[valid], np.float64, order="C")
        out = np.zeros((len(_MEASURES), window.shape[1]))
        if not len(x):
            return out.T.astype(np.float32).ravel()
        low, high = x.min(0), x.max(0)
        mean = np.add.reduce(x, 0) / len(x)
        y = x - mean
        square = y * y
        m2, m3, m4 = (np.add.reduce(p, 0) / len(x) for p in (square, square * y, square * square))
        varies = high > low
        spread = np.where(varies, m2, 1.0)
        out[0], out[2], out[3] = mean, low, high
        out[1] = np.sqrt(m2) * varies
        out[4] = m3 / spread**1.5 * varies
        out[5] = (m4 / (spread * spread) - 3.0) * varies
        steps = np.abs(x[1:] - x[:-1])
        if not full:
            at = np.flatnonzero(valid)
            steps = steps[at[1:] == at[:-1] + 1]
        if len(steps):
            out[6] = np.add.reduce(steps, 0) / len(steps)
        return out.T.astype(np.float32).ravel()
