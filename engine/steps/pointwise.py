"""Steps that look at one item at a time: choose or mix channels, re-reference, scale, clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from engine.errors import ConfigError
from engine.steps.channels import locate
from engine.types import Array, Notes, StreamInfo

__all__ = ["NO_NOTES", "Clip", "Downmix", "Reference", "Scale", "Select"]

NO_NOTES: Notes = MappingProxyType({})  # what a step without notes returns, one for all

_VOLTS: Mapping[str, int] = {"V": 0, "mV": -3, "uV": -6, "µV": -6, "μV": -6, "nV": -9}
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


class Select:
    """Picks channels by name, in the order of `channels`: (time, n) to (time, len(channels)).

    `mapping` is {channel: channel of the stream} where names differ. Raises BundleError listing
    what the stream lacks; see `engine.steps.channels.locate` for which names are the same.
    """

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(
        self,
        info: StreamInfo,
        *,
        channels: Sequence[str],
        mapping: Mapping[str, str] | None = None,
    ) -> None:
        wanted = _names("select", channels, info)
        self.info = replace(info, channels=wanted, shape=(len(wanted),))
        places = locate(wanted, info, mapping or {})
        first, n = places[0], len(places)
        in_a_row = places == list(range(first, first + n))
        self._places: Array | slice = slice(first, first + n) if in_a_row else np.array(places)
        self._all = in_a_row and n == len(info.channels)

    def reset(self) -> None:
        """Nothing is remembered."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        """Neighbouring channels come as a view of `x`, not as a copy."""
        return (x if self._all else x[:, self._places]), valid, NO_NOTES


class Reference:
    """Subtracts the mean over all channels (`method` average) or over `channels`, per item."""

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(
        self,
        info: StreamInfo,
        *,
        method: str | None = None,
        channels: Sequence[str] | None = None,
    ) -> None:
        if (method is None) == (channels is None):
            raise ConfigError("reference needs either method: average or channels: [...]")
        if method not in (None, "average"):
            raise ConfigError(f"reference: no method {method!r}; use 'average' or channels: [...]")
        wanted = _names("reference", info.channels if channels is None else channels, info)
        self.info = info
        self._places = None if channels is None else np.array(locate(wanted, info, {}))
        self._n = len(wanted)
        self.average = channels is None

    def reset(self) -> None:
        """Nothing is remembered."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        """Sums in float64 over contiguous rows: numpy's order of addition depends on the layout,
        and the layout of a short chunk differs from that of a long one."""
        rows = np.array(x, np.float64, order="C")
        chosen = rows if self._places is None else np.take(rows, self._places, axis=1)
        rows -= (np.add.reduce(chosen, axis=1) / self._n)[:, None]
        return rows.astype(np.float32), valid, NO_NOTES


class Downmix:
    """The mean over all channels as the one channel `mono`: (time, n) to (time, 1)."""

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(self, info: StreamInfo) -> None:
        _names("downmix", info.channels, info)
        self.info = replace(info, channels=("mono",), shape=(1,))

    def reset(self) -> None:
        """Nothing is remembered."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        """Sums in float64 over contiguous rows, as Reference does; one channel passes as it is."""
        if x.shape[1] == 1:
            return x, valid, NO_NOTES
        rows = np.array(x, np.float64, order="C")
        mean = np.add.reduce(rows, axis=1, keepdims=True) / rows.shape[1]
        return mean.astype(np.float32), valid, NO_NOTES


class Scale:
    """Multiplies by `factor`, or converts from the stream's unit to `unit` (V, mV, uV, nV)."""

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(
        self, info: StreamInfo, *, factor: float | None = None, unit: str | None = None
    ) -> None:
        if factor is not None and unit is None:
            if not _SMALLEST <= abs(factor) <= _LARGEST:
                raise ConfigError(f"scale: the factor must be a finite float32, not {factor:g}")
            self.info = info
        elif unit is not None and factor is None:
            self.info = replace(info, unit=unit)
            factor = _conversion(info, unit)
        else:
            raise ConfigError("scale needs either factor or unit")
        self._factor = None if factor == 1 else np.float32(factor)

    def reset(self) -> None:
        """Nothing is remembered."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        return (x if self._factor is None else x * self._factor), valid, NO_NOTES


class Clip:
    """Limits every value to `low` .. `high`, in the stream's unit."""

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(self, info: StreamInfo, *, low: float, high: float) -> None:
        if not -_LARGEST <= low < high <= _LARGEST:
            raise ConfigError(f"clip {low:g} to {high:g}: need low < high, both finite")
        self.info = info
        self._low, self._high = np.float32(low), np.float32(high)

    def reset(self) -> None:
        """Nothing is remembered."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        return np.minimum(np.maximum(x, self._low), self._high), valid, NO_NOTES


def _conversion(info: StreamInfo, unit: str) -> float:
    if unit == info.unit:
        return 1.0
    if unit not in _VOLTS or info.unit not in _VOLTS:
        raise ConfigError(
            f"scale: stream {info.name!r} is in {info.unit!r}, which does not convert to {unit!r}; "
            "V, mV, uV and nV convert to each other"
        )
    return float(f"1e{_VOLTS[info.unit] - _VOLTS[unit]}")


def _names(step: str, channels: Sequence[str], info: StreamInfo) -> tuple[str, ...]:
    """`channels` as names, for a step that needs items of shape (channels,)."""
    if isinstance(channels, str) or not all(isinstance(name, str) for name in channels):
        raise ConfigError(f"{step}: channels must be a list of names, not {channels!r}")
    if not channels:
        raise ConfigError(f"{step}: channels is empty; name at least one")
    if info.shape != (len(info.channels),):
        raise ConfigError(
            f"{step} needs items of one value per channel; those of stream {info.name!r} have "
            f"the shape {info.shape} and {len(info.channels)} channels"
        )
    return tuple(channels)
