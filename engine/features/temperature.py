"""The skin's temperature over a window: how warm, and how it changes."""

from __future__ import annotations

import numpy as np

from engine.errors import ConfigError
from engine.features.demands import last_items, need_channels
from engine.features.trend import mean_and_slope
from engine.types import Array, StreamInfo

__all__ = ["Temperature"]


class Temperature:
    """Mean and slope (a second) of the straight line through the valid items, in the stream's unit.

    `level: false` leaves the mean out. A window with no valid item is all 0. `last_s` looks at the
    end of the window only.
    """

    def __init__(
        self,
        info: StreamInfo,
        n_items: int,
        *,
        level: bool = True,
        last_s: float | None = None,
    ) -> None:
        need_channels("temperature", info)
        if info.shape != (1,) or info.rate_hz is None:
            raise ConfigError(
                f"temperature needs one channel of a regular stream; {info.name!r} has "
                f"{len(info.channels)} at {info.rate_hz or 0:g} Hz"
            )
        self._n_last = last_items("temperature", info, n_items, last_s)
        self._rate_hz, self._level = info.rate_hz, level
        measures = ("level", "slope") if level else ("slope",)
        self.names = tuple(f"{info.channels[0]}.{measure}" for measure in measures)

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, 1), (n_items,) -> (2,), without the level (1,)."""
        x, valid = window[-self._n_last :, 0], np.array(valid[-self._n_last :])
        found = mean_and_slope(x, valid, self._rate_hz)
        return np.array(found if self._level else found[1:], np.float32)
