"""The clock fit: from a device's (index, time) stamps to knots of a map that is never rewritten."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ClockFit", "Knot"]

_MEMORY_S = 60.0  # stamps fade with this time constant
_PRIOR_S3 = 1.0  # how much evidence (s^3) the drift needs before it is believed by half
_EVERY_S = 1.0  # a new knot at most this often
_SLACK_ITEMS = 1e-6  # rounding room when a time falls on an item


@dataclass(frozen=True, slots=True)
class Knot:
    """From item `index` on, item i stands at `time_s + (i - index) / rate_hz`."""

    index: int
    time_s: float
    rate_hz: float

    def time(self, index: int) -> float:
        """When item `index` stands, in seconds."""
        return self.time_s + (index - self.index) / self.rate_hz

    def first_after(self, t_s: float) -> int:
        """The first item that stands after `t_s` (an item within rounding of it does not)."""
        return self.index + math.floor((t_s - self.time_s) * self.rate_hz + _SLACK_ITEMS) + 1


class ClockFit:
    """Least squares of stamp against index, fading exponentially, seen from the newest stamp.

    The line is y = level + drift * x with x the nominal and y the excess time in seconds, both
    relative to the latest stamp; each stamp weighs the time since the one before it, so that the
    result does not depend on how densely a device stamps; the drift is shrunk towards zero.
    Stamps are taken one by one in index order and knots appear only at stamps, so the map is the
    same however the stream was cut.
    """

    def __init__(self, index: int, time_s: float, rate_hz: float) -> None:
        self.nominal_hz = rate_hz
        self.knot = Knot(index, time_s, rate_hz)
        self.drift = 0.0  # relative excess of the device's period, 0 for a perfect device
        self.seen_s = 0.0  # how much of the stream the fit has seen
        self._index, self._time_s = index, time_s  # the reference: excess is counted from here
        self._last = index
        w = 1.0 / rate_hz
        self._w, self._x, self._y, self._xx, self._xy = w, 0.0, 0.0, 0.0, 0.0

    def residual_s(self, index: int, time_s: float) -> float:
        """How far a stamp lies behind (positive: later than) the present map."""
        return time_s - self.knot.time(index)

    def take(self, index: int, time_s: float) -> Knot | None:
        """Learn from one stamp; the new knot, if the map moves."""
        dx = (index - self._last) / self.nominal_hz
        if dx <= 0:
            return None
        self._last = index
        self.seen_s += dx
        fade = math.exp(-dx / _MEMORY_S)
        # Move the origin of x to this stamp, then add it with the weight dx.
        self._xx = fade * (self._xx - 2 * dx * self._x + dx * dx * self._w)
        self._xy = fade * (self._xy - dx * self._y)
        self._x = fade * (self._x - dx * self._w)
        self._w, self._y = fade * self._w, fade * self._y
        excess = time_s - (self._time_s + (index - self._index) / self.nominal_hz)
        self._w += dx
        self._y += dx * excess
        if (index - self.knot.index) / self.nominal_hz < _EVERY_S:
            return None
        mean_x, mean_y = self._x / self._w, self._y / self._w
        spread = self._xx - self._w * mean_x * mean_x
        self.drift = (self._xy - self._w * mean_x * mean_y) / (spread + _PRIOR_S3)
        level = mean_y - self.drift * mean_x
        at = self._time_s + (index - self._index) / self.nominal_hz + level
        rate_hz = self.nominal_hz / (1.0 + self.drift)
        moved = abs(at - self.knot.time(index)) * rate_hz
        if moved < 0.01 and abs(rate_hz / self.knot.rate_hz - 1.0) < 1e-6:
            return None
        self.knot = Knot(index, at, rate_hz)
        return self.knot
