"""Differential entropy per channel and band: one item for each whole window of a stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from engine.errors import ConfigError
from engine.steps.filters import bandpass
from engine.steps.pointwise import NO_NOTES
from engine.types import Array, Notes, StreamInfo

__all__ = ["BANDS", "NATS", "DifferentialEntropy"]

NATS = "nat"  # the unit: natural logarithms
# Those of the SEED data sets.
BANDS: Mapping[str, Sequence[float]] = {
    "delta": (1, 4),
    "theta": (4, 8),
    "alpha": (8, 14),
    "beta": (14, 31),
    "gamma": (31, 50),
}
_MAX_WINDOW = 1 << 16  # items
_ROUNDING = 1e-6  # items: how far window_s may fall beside the item that it means
_FLOOR = 1e-20  # unit^2: below an amplifier's noise even in V, and its logarithm is finite
_GAUSS = 2.0 * math.pi * math.e


class DifferentialEntropy:
    """(time, channels) to (windows, channels * bands): ln(2 pi e variance) / 2, every `window_s`.

    That is the differential entropy of a Gaussian signal of that variance (Duan et al. 2013), here
    of the signal behind a causal Butterworth band-pass per band, which settles on a segment's
    first item. Windows follow each other without overlap from that item on; window m comes with
    its last item, so n inputs make n // items outputs, and a partial window at the end makes none.
    The variance is of the valid items around their mean, in float64 and at once, when the window
    is complete: the same bits for any cut. A window is valid if at least `min_valid` of its items
    are. Variances below 1e-20 count as that. Names are channel-major, `FP1 delta` first.

    Raises ConfigError for items that are not one value per channel, bands that do not fit the
    rate, and a window of no whole number of items.
    """

    def __init__(
        self,
        info: StreamInfo,
        *,
        window_s: float = 4.0,
        bands: Mapping[str, Sequence[float]] = BANDS,
        order: int = 4,
        min_valid: float = 0.5,
    ) -> None:
        rate_hz = _rate_hz(info)
        if not bands:
            raise ConfigError("differential_entropy: bands is empty; name at least one")
        if not 0 < min_valid <= 1:
            raise ConfigError(
                f"differential_entropy: min_valid must be above 0 and up to 1, not {min_valid:g}"
            )
        self._n = _items(window_s, rate_hz)
        edges = [_edges(band, edge, rate_hz) for band, edge in bands.items()]
        self._filters = [bandpass(info, low_hz=a, high_hz=b, order=order) for a, b in edges]
        self._n_needed = math.ceil(min_valid * self._n - _ROUNDING)
        self.ratio = Fraction(1, self._n)
        # of a window's middle, behind the slowest of the filters
        slowest_s = max(each.delay_s for each in self._filters)
        self.delay_s = (self._n - 1) / 2 / rate_hz + slowest_s
        names = tuple(f"{channel} {band}" for channel in info.channels for band in bands)
        self.info = replace(
            info, rate_hz=rate_hz / self._n, channels=names, unit=NATS, shape=(len(names),)
        )
        shape = (self._n, len(info.channels), len(edges))
        self._window, self._mask = np.zeros(shape, np.float32), np.zeros(self._n, bool)
        self.reset()

    def reset(self) -> None:
        """A new segment: its first window begins with the next item."""
        self._n_in = 0  # items of the window at hand
        for each in self._filters:
            each.reset()

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        n_out = (self._n_in + len(x)) // self._n
        out, marks = np.empty((n_out, *self.info.shape), np.float32), np.zeros(n_out, bool)
        done = m = 0
        while done < len(x):
            n = min(len(x) - done, self._n - self._n_in)
            part, here = slice(done, done + n), slice(self._n_in, self._n_in + n)
            for band, each in enumerate(self._filters):
                self._window[here, :, band] = each(x[part], valid[part])[0]
            self._mask[here] = valid[part]
            self._n_in += n
            done += n
            if self._n_in == self._n:
                out[m], marks[m] = self._entropy()
                self._n_in = 0
                m += 1
        return out, marks, NO_NOTES

    def _entropy(self) -> tuple[Array, bool]:
        """(channels * bands,) of the full window, and whether it is valid."""
        n_valid = int(np.count_nonzero(self._mask))
        kept = self._window if n_valid == self._n else self._window[self._mask]
        rows = kept.reshape(len(kept), *self.info.shape).astype(np.float64)
        rows -= np.add.reduce(rows, 0) / max(n_valid, 1)
        variance = np.add.reduce(np.square(rows, out=rows), 0) / max(n_valid, 1)
        entropy = 0.5 * np.log(_GAUSS * np.maximum(variance, _FLOOR))
        return entropy.astype(np.float32), n_valid >= self._n_needed


def _edges(band: str, edges: Sequence[float], rate_hz: float) -> tuple[float, float]:
    if len(edges) != 2 or not all(isinstance(edge, int | float) for edge in edges):
        raise ConfigError(
            f"differential_entropy: band {band} must be [low, high] in Hz, not {edges!r}"
        )
    low_hz, high_hz = edges
    if not 0 < low_hz < high_hz < rate_hz / 2:
        raise ConfigError(
            f"differential_entropy: band {band} {low_hz:g}-{high_hz:g} Hz does not fit a "
            f"{rate_hz:g} Hz stream: need 0 < low < high < {rate_hz / 2:g}"
        )
    return low_hz, high_hz


def _items(window_s: float, rate_hz: float) -> int:
    """The window in whole items."""
    n = round(window_s * rate_hz) if 0 < window_s < math.inf else 0
    if not 2 <= n <= _MAX_WINDOW or abs(n - window_s * rate_hz) > _ROUNDING:
        raise ConfigError(
            f"differential_entropy: window_s {window_s:g} is {window_s * rate_hz:g} items at "
            f"{rate_hz:g} Hz; need a whole number of them, 2 to {_MAX_WINDOW}"
        )
    return n


def _rate_hz(info: StreamInfo) -> float:
    if info.rate_hz is None:
        raise ConfigError(
            f"differential_entropy needs a regular stream; {info.name!r} has no fixed rate"
        )
    if info.shape != (len(info.channels),):
        raise ConfigError(
            "differential_entropy needs items of one value per channel; those of stream "
            f"{info.name!r} have the shape {info.shape} and {len(info.channels)} channels"
        )
    return info.rate_hz
