"""How much somebody moves, out of an accelerometer's window."""

from __future__ import annotations

import math

import numpy as np

from engine.errors import ConfigError
from engine.features.demands import last_items, need_channels
from engine.types import Array, StreamInfo

__all__ = ["Motion"]

_MEASURES = ("std", "jerk", "still")
_BLOCK_S = 1.0  # a stretch is still or not
_G = {"g": 1.0, "mg": 1e3, "m/s^2": 9.80665}  # a standard gravity in units that are known


class Motion:
    """Deviation of the magnitude, mean jerk, and the share of the window that is still.

    `std` is the standard deviation of the length of the acceleration vector, `jerk` the mean
    length of its change per second (between valid neighbours), both in the stream's unit. `still`
    is the share of whole seconds, all valid, in which the length deviates by less than `still_g`
    gravities. A window with no valid item is all 0. `last_s` looks at the end of the window only.
    """

    def __init__(
        self,
        info: StreamInfo,
        n_items: int,
        *,
        still_g: float = 0.01,
        last_s: float | None = None,
    ) -> None:
        need_channels("motion", info)
        if info.rate_hz is None or info.rate_hz < 4 or info.unit not in _G:
            raise ConfigError(
                f"motion needs an acceleration in {', '.join(_G)} at 4 Hz or more; stream "
                f"{info.name!r} is in {info.unit!r} at {info.rate_hz or 0:g} Hz"
            )
        if not 0 < still_g < math.inf:
            raise ConfigError(f"motion: still_g must be above 0, not {still_g:g}")
        self._n_last = last_items("motion", info, n_items, last_s)
        self._rate_hz, self._n_block = info.rate_hz, round(_BLOCK_S * info.rate_hz)
        self._still = still_g * _G[info.unit]
        self.names = tuple(f"motion.{measure}" for measure in _MEASURES)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, axes), (n_items,) -> (3,)."""
        x = np.array(window[-self._n_last :], np.float64, order="C")
        valid = np.array(valid[-self._n_last :])
        out = np.zeros(len(_MEASURES), np.float32)
        if not valid.any():
            return out
        x[~valid] = 0.0
        length = _length(x)
        out[0] = np.std(length[valid])
        both = valid[1:] & valid[:-1]
        if both.any():
            out[1] = np.mean(_length(np.diff(x, axis=0))[both]) * self._rate_hz
        out[2] = self._still_share(length, valid)
        return out

    def _still_share(self, length: Array, valid: Array) -> float:
        n = len(length) // self._n_block
        if not n:
            return 0.0
        shape = (n, self._n_block)
        first = len(length) - n * self._n_block
        whole = valid[first:].reshape(shape).all(axis=1)
        still = np.std(length[first:].reshape(shape), axis=1) < self._still
        return float(np.mean(still[whole])) if whole.any() else 0.0


def _length(x: Array) -> Array:
    """(time, axes) -> (time,), the same bits for any number of rows."""
    return np.asarray(np.sqrt(np.add.reduce(x * x, axis=1)))
