"""What a feature may demand of the stream that it is computed from."""

from __future__ import annotations

from engine.errors import ConfigError
from engine.types import StreamInfo

__all__ = ["last_items", "need_channels"]


def need_channels(feature: str, info: StreamInfo) -> None:
    """Raise ConfigError unless an item is one value per channel."""
    if info.shape != (len(info.channels),):
        raise ConfigError(
            f"{feature} needs items of one value per channel; those of stream {info.name!r} have "
            f"the shape {info.shape} and {len(info.channels)} channels"
        )


def last_items(feature: str, info: StreamInfo, n_items: int, last_s: float | None) -> int:
    """How many items the last `last_s` of a window are; all of them for None."""
    if last_s is None:
        return n_items
    n = round(last_s * (info.rate_hz or 0.0))
    if not 0 < n <= n_items:
        raise ConfigError(
            f"{feature}: last_s {last_s:g} does not fit a window of {n_items} items at "
            f"{info.rate_hz or 0:g} Hz"
        )
    return n
