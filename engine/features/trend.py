"""What is slow in a window: the straight line through its valid items, moving means."""

from __future__ import annotations

import numpy as np

from engine.types import Array

__all__ = ["filled", "mean_and_slope", "mean_around"]


def filled(x: Array, valid: Array) -> Array:
    """(time,) float64 with straight lines over the invalid items; some must be valid."""
    at = np.flatnonzero(valid)
    known = x[at].astype(np.float64)
    bridged: Array = known if len(at) == len(x) else np.interp(np.arange(len(x)), at, known)
    return bridged


def mean_and_slope(x: Array, valid: Array, rate_hz: float) -> tuple[float, float]:
    """Of the least-squares line through the valid items of (time,): its mean, and its slope per
    second. Both are 0 without any."""
    at = np.flatnonzero(valid) / rate_hz
    if not len(at):
        return 0.0, 0.0
    known = x[valid].astype(np.float64)
    mean, t = float(known.mean()), at - at.mean()
    spread = float(np.add.reduce(t * t))
    return mean, float(np.add.reduce(t * (known - mean))) / spread if spread > 0 else 0.0


def mean_around(x: Array, n: int) -> Array:
    """The mean of the `n` (odd) items around each of (time,); of fewer at the ends."""
    total = np.concatenate(([0.0], np.cumsum(x)))
    at = np.arange(len(x))
    low, high = np.maximum(at - n // 2, 0), np.minimum(at + n // 2 + 1, len(x))
    mean: Array = (total[high] - total[low]) / (high - low)
    return mean
