"""What makes training windows differ from each other as rooms and microphones do.

All work on log-mel frames in natural logarithms of power, (batch, time, bins) with masks
(batch, time), and draw from the `rng` that they are given.
"""

from __future__ import annotations

import math

import numpy as np

from engine.types import Array

__all__ = ["colour", "coloured_noise", "mixing", "stripes"]

_NEPER_PER_DB = math.log(10.0) / 10.0  # of a power's natural logarithm
_GAMMA = 3.0  # how steady the power of noise is in one bin and frame


def colour(x: Array, rng: np.random.Generator, tilt_db: float = 6.0, gain_db: float = 6.0) -> Array:
    """Another distance and another microphone: a level, and a slope over the bins."""
    n, _, n_bins = x.shape
    ramp = np.linspace(-1.0, 1.0, n_bins)
    gain = rng.uniform(-gain_db, gain_db, (n, 1)) + rng.uniform(-tilt_db, tilt_db, (n, 1)) * ramp
    moved: Array = x + (gain * _NEPER_PER_DB)[:, None, :].astype(np.float32)
    return moved


def coloured_noise(
    x: Array,
    valid: Array,
    rng: np.random.Generator,
    share: float = 0.35,
    snr_db: tuple[float, float] = (8.0, 40.0),
) -> Array:
    """Noise of a random slope added as power to about `share` of the windows.

    The signal's power is the mean over its valid frames.
    """
    rows = np.flatnonzero(rng.random(len(x)) < share)
    if not len(rows):
        return x
    power, mask = np.exp(x[rows]), valid[rows][:, :, None]
    n, n_time, n_bins = power.shape
    level = (power * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)) * n_bins, 1)
    spectrum = np.exp(rng.uniform(-2.0, 1.0, (n, 1)) * np.linspace(-1.0, 1.0, n_bins))
    spectrum /= spectrum.mean(1, keepdims=True)
    loud = level * 10.0 ** (-rng.uniform(*snr_db, n) / 10.0)
    noise = (loud[:, None] * spectrum)[:, None, :].astype(np.float32)
    noise = noise * rng.standard_gamma(_GAMMA, (n, n_time, n_bins), np.float32) / _GAMMA
    mixed = x.copy()
    mixed[rows] = np.log(power + noise)
    return mixed


def stripes(
    x: Array,
    valid: Array,
    rng: np.random.Generator,
    n_stripes: int = 2,
    longest: int = 25,
    widest: int = 8,
) -> tuple[Array, Array]:
    """SpecAugment (Park et al. 2019): stretches of time become invalid, bands lose their shape."""
    x, valid = x.copy(), valid.copy()
    n, n_time, n_bins = x.shape
    for row in range(n):
        for _ in range(n_stripes):
            length = int(rng.integers(0, longest + 1))
            first = int(rng.integers(0, n_time - length + 1))
            if np.count_nonzero(valid[row]) > 3 * longest:
                valid[row, first : first + length] = False
            width = int(rng.integers(1, widest + 1))
            low = int(rng.integers(0, n_bins - width + 1))
            x[row, :, low : low + width] = x[row, :, low : low + width].mean()
    return x, valid


def mixing(n: int, rng: np.random.Generator, alpha: float) -> tuple[Array, Array]:
    """Mixup (Zhang et al. 2018): the share of each row (n,) float32, and its partner (n,)."""
    partner = rng.permutation(n)
    if not alpha:
        return np.ones(n, np.float32), partner
    share = rng.beta(alpha, alpha, n)
    return np.maximum(share, 1.0 - share).astype(np.float32), partner
