"""Pictures as rows of colour planes: so a fault that names channels means the same for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.types import Array, Chunk, StreamInfo
from sources.fault import Deliveries, Fault
from sources.faults import parse_faults, with_faults

__all__ = ["parse_picture_faults", "with_picture_faults"]


def parse_picture_faults(specs: Sequence[Mapping[str, Any]], info: StreamInfo) -> tuple[Fault, ...]:
    """`parse_faults` for a stream of pictures, which refuses what they cannot have."""
    faults = parse_faults(specs, _planes(info))
    for n, fault in enumerate(faults):
        if fault.kind == "nan":
            raise ConfigError(
                f"faults[{n}].kind: pictures of whole levels, as of stream {info.name!r}, cannot "
                "be nan; a frozen picture is flat, a missing one gap"
            )
    return faults


def with_picture_faults(
    deliveries: Deliveries, faults: Sequence[Fault], info: StreamInfo, seed: int
) -> Deliveries:
    """`with_faults` for pictures (time, height, width, channels) of bytes.

    Each colour of a picture goes through as one opaque value, in items of (channels,).
    """
    height, width, _ = info.shape

    def fold(data: Array) -> Array:
        planes = np.ascontiguousarray(np.moveaxis(data, -1, 1)).reshape(len(data), -1)
        return np.asarray(planes.view(np.dtype((np.void, height * width))))

    def unfold(data: Array) -> Array:
        planes = np.ascontiguousarray(data).view(np.uint8)
        planes = planes.reshape(len(data), data.shape[1], height, width)
        return np.ascontiguousarray(np.moveaxis(planes, 1, -1))

    folded = _mapped(deliveries, fold)
    return _mapped(with_faults(folded, faults, _planes(info), seed), unfold)


def _planes(info: StreamInfo) -> StreamInfo:
    return replace(info, shape=(len(info.channels),))


def _mapped(deliveries: Deliveries, change: Callable[[Array], Array]) -> Deliveries:
    """Deliveries whose chunks hold what `change` makes of their data."""
    for delivery in deliveries:
        chunk = delivery.what
        if isinstance(chunk, Chunk):
            delivery = replace(delivery, what=replace(chunk, data=change(chunk.data)))
        yield delivery
