"""What a fault is: when, and what it does to a device's deliveries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from engine.errors import SourceLost
from engine.types import Chunk, StreamInfo
from sources.playback import Delivery

__all__ = ["Deliveries", "Fault", "Kind", "Seed", "edges", "pieces"]

Deliveries: TypeAlias = Iterator[Delivery]
Seed: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: from `at_s` on for `for_s` (infinite: to the end), with what else its kind takes.

    Seconds count from the device's first item, by the declared rate.
    """

    kind: str
    at_s: float
    for_s: float
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault kind: what it does, how long by default, its own keys with their defaults."""

    apply: Callable[[Deliveries, Fault, StreamInfo, Seed], Deliveries]
    for_s: float
    args: Mapping[str, Any] = field(default_factory=dict)


def edges(fault: Fault, info: StreamInfo) -> tuple[int, float]:
    """The items [first, end) that the fault is about; `end` may be infinite."""
    assert info.rate_hz is not None
    end = fault.at_s + fault.for_s
    return (
        math.ceil(fault.at_s * info.rate_hz),
        end if math.isinf(end) else math.ceil(end * info.rate_hz),
    )


def pieces(
    deliveries: Deliveries, fault: Fault, info: StreamInfo
) -> Iterator[tuple[Delivery, Chunk | None, bool]]:
    """Deliveries cut at the edges of the fault's time, as (delivery, its chunk, inside)."""
    first, end = edges(fault, info)
    for delivery in deliveries:
        rest, at = delivery.what, delivery.at
        if isinstance(rest, SourceLost):
            yield delivery, None, False
            continue
        for edge in (first, end):
            if at < edge < at + len(rest):
                head, rest = rest.cut(int(edge) - at)
                yield replace(delivery, at=at, what=head), head, first <= at < end
                at = int(edge)
        yield replace(delivery, at=at, what=rest), rest, first <= at < end
