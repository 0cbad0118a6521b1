"""How much power a window has in each band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.fft
from scipy.signal import get_window

from engine.errors import ConfigError
from engine.features.demands import need_channels
from engine.types import Array, StreamInfo

__all__ = ["LogBandPower", "bins"]

_TAPERS = ("hann", "hamming", "blackman", "boxcar")
_BANDS: Mapping[str, Sequence[float]] = {
    "delta": (1, 4),
    "theta": (4, 8),
    "alpha": (8, 14),
    "beta": (14, 31),
    "gamma": (31, 45),
}
_FLOOR = 1e-20  # unit^2 / Hz: below an amplifier's noise even in V, and its logarithm is finite
_ROUNDING = 1e-9  # bins: how far an edge may fall beside the bin that it means


class LogBandPower:
    """The natural logarithm of the mean power spectral density per channel and band.

    One tapered periodogram of the whole window, one-sided, in unit^2 / Hz; a band [low, high) in
    Hz averages its bins. Invalid items become zero after the valid ones' mean is taken away, and
    the power is divided by the taper's energy on valid items: a full window gives
    `scipy.signal.periodogram(detrend="constant")`. Densities below 1e-20 count as 1e-20.
    Names are channel-major: channel 0 in every band, then channel 1.
    """

    def __init__(
        self,
        info: StreamInfo,
        n_items: int,
        *,
        bands: Mapping[str, Sequence[float]] = _BANDS,
        taper: str = "hann",
    ) -> None:
        need_channels("log_band_power", info)
        if info.rate_hz is None:
            raise ConfigError(f"log_band_power needs a regular stream; {info.name!r} is not")
        if taper not in _TAPERS:
            raise ConfigError(
                f"log_band_power: no taper {taper!r}; use one of {', '.join(_TAPERS)}"
            )
        if not bands:
            raise ConfigError("log_band_power: bands is empty; name at least one")
        self.names = tuple(f"{channel}.{band}" for channel in info.channels for band in bands)
        self._taper: Array = get_window(taper, n_items).astype(np.float64)[:, None]
        self._energy: Array = self._taper[:, 0] ** 2 * info.rate_hz
        self._full = float(self._energy.sum())
        edges = [
            bins("log_band_power", band, edge, n_items, info.rate_hz)
            for band, edge in bands.items()
        ]
        self._low, self._high = min(a for a, _ in edges), max(b for _, b in edges)
        self._bins = [slice(a - self._low, b - self._low) for a, b in edges]
        # |re|^2 + |im|^2 of a bin into its part of the band's mean, apart from the taper's energy
        self._parts: Array = np.array([2.0 / (b - a) for a, b in edges])[:, None]

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, channels), (n_items,) -> (channels * bands,)."""
        x = np.array(window, np.float64, order="C")  # always this layout: it decides the bits
        n_valid, energy = int(np.count_nonzero(valid)), self._full
        if n_valid < len(x):
            x[~valid] = 0.0
            energy = float(self._energy[valid].sum())
        x -= np.add.reduce(x, 0) / max(n_valid, 1)
        x *= self._taper
        if n_valid < len(x):
            x[~valid] = 0.0
        spectrum = scipy.fft.rfft(x, axis=0, overwrite_x=True)[self._low : self._high]
        power = spectrum.real**2
        power += spectrum.imag**2
        if self._low == 0:
            power[0] *= 0.5  # the one-sided density doubles every bin but this one
        sums = np.array([np.add.reduce(power[bins], 0) for bins in self._bins])
        density = sums * self._parts / energy if energy > 0 else np.zeros_like(sums)
        return np.log(np.maximum(density, _FLOOR)).T.astype(np.float32).ravel()


def bins(
    feature: str, band: str, edges: Sequence[float], n_items: int, rate_hz: float
) -> tuple[int, int]:
    """The bins (from, to) of a periodogram of `n_items` whose frequencies are in [low, high)."""
    if len(edges) != 2 or not all(isinstance(edge, int | float) for edge in edges):
        raise ConfigError(f"{feature}: band {band} must be [low, high] in Hz, not {edges!r}")
    low_hz, high_hz = edges
    if not 0 <= low_hz < high_hz <= rate_hz / 2:
        raise ConfigError(
            f"{feature}: band {band} {low_hz:g}-{high_hz:g} Hz does not fit a {rate_hz:g} Hz "
            f"stream: need 0 <= low < high <= {rate_hz / 2:g}"
        )
    first, last = (math.ceil(hz * n_items / rate_hz - _ROUNDING) for hz in (low_hz, high_hz))
    if first == last:
        raise ConfigError(
            f"{feature}: a window of {n_items / rate_hz:g} s resolves {rate_hz / n_items:g} "
            f"Hz and has no frequency in band {band} {low_hz:g}-{high_hz:g} Hz; make either wider"
        )
    return first, last
