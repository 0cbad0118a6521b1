"""How the channels of a window vary together, in each of some bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.fft

from engine.errors import ConfigError
from engine.features.demands import need_channels
from engine.features.spectral import bins
from engine.types import Array, StreamInfo

__all__ = ["Covariance"]

_FLOOR = 1e-12  # of a variance, in unit^2: a dead channel must not make a matrix singular


class Covariance:
    """The upper triangle of the channels' covariance over the valid items, in unit^2.

    Each channel's mean is taken away. With `bands` {name: [low, high)} in Hz there is one
    covariance per band, band after band: of what the discrete Fourier transform of the window has
    in it, invalid items being zero, which is the covariance of the window filtered without phase.
    `shrinkage` mixes in the mean variance on the diagonal (Ledoit and Wolf 2004), so that every
    matrix is positive. The triangle is row by row, diagonal included.
    """

    def __init__(
        self,
        info: StreamInfo,
        n_items: int,
        *,
        shrinkage: float = 0.05,
        bands: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        need_channels("covariance", info)
        if not 0 < shrinkage <= 1:
            raise ConfigError(f"covariance: shrinkage {shrinkage:g}; need 0 < shrinkage <= 1")
        if bands is not None and (not bands or info.rate_hz is None):
            raise ConfigError("covariance: bands need a name and a regular stream")
        n = len(info.channels)
        self._rows, self._columns = np.triu_indices(n)
        self._shrinkage, self._eye = shrinkage, np.eye(n)
        edges = {b: bins("covariance", b, e, n_items, info.rate_hz or 0) for b, e in
                 (bands or {}).items()}  # fmt: skip
        self._bins = [slice(first, last) for first, last in edges.values()]
        pairs = [f"{info.channels[i]}*{info.channels[j]}" for i, j in
                 zip(self._rows, self._columns, strict=True)]  # fmt: skip
        self.names = tuple(f"{p}.{b}" for b in edges for p in pairs) if edges else tuple(pairs)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, channels), (n_items,) -> (bands * channels * (channels + 1) / 2,)."""
        x = np.array(window, np.float64, order="C")  # always this layout: it decides the bits
        n_valid = max(int(np.count_nonzero(valid)), 1)
        x[~valid] = 0.0
        x -= np.add.reduce(x, 0) / n_valid
        x[~valid] = 0.0
        found = self._of_bands(x, n_valid) if self._bins else [x.T @ x / n_valid]
        return np.concatenate([self._triangle(c) for c in found]).astype(np.float32)

    def _of_bands(self, x: Array, n_valid: int) -> list[Array]:
        """Parseval: the bins of a band, twice for the frequencies below zero, add up to its part
        of the covariance. The zero and the Nyquist bin have no twin."""
        spectrum = scipy.fft.rfft(x, axis=0)
        n_items = len(x)
        weight = np.full(len(spectrum), 2.0 / (n_items * n_valid))
        weight[0] /= 2
        if n_items % 2 == 0:
            weight[-1] /= 2
        parts = []
        for part in self._bins:
            real, imaginary = spectrum.real[part], spectrum.imag[part]
            w = weight[part, None]
            parts.append(real.T @ (w * real) + imaginary.T @ (w * imaginary))
        return parts

    def _triangle(self, covariance: Array) -> Array:
        share = self._shrinkage
        mean = max(float(np.trace(covariance)) / len(covariance), _FLOOR)
        shrunk = (1 - share) * covariance + share * mean * self._eye
        upper: Array = shrunk[self._rows, self._columns]
        return upper
