"""Faults of the device itself: wrong values, a clock that errs, items of another shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.types import Array, Chunk, StreamInfo
from sources.fault import Deliveries, Fault, Seed, edges, pieces
from sources.playback import Delivery

__all__ = ["channels", "drift", "flat", "jitter", "jump", "nan", "rate"]


def _changed(
    deliveries: Deliveries, fault: Fault, info: StreamInfo, change: Callable[[Chunk], Array]
) -> Deliveries:
    """Deliveries whose data inside the fault's time is what `change` makes of it."""
    for delivery, chunk, inside in pieces(deliveries, fault, info):
        if inside and chunk is not None:
            delivery = replace(delivery, what=replace(chunk, data=change(chunk)))
        yield delivery


def nan(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Some channels are not a number, or infinite."""

    def spoil(chunk: Chunk) -> Array:
        data = chunk.data.copy()
        data[:, fault.args["channels"]] = fault.args["value"]
        return data

    return _changed(deliveries, fault, info, spoil)


def flat(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Some channels stand still at the value they had when it began."""
    columns = fault.args["channels"]
    held: list[Array] = []

    def hold(chunk: Chunk) -> Array:
        data = chunk.data.copy()
        if not held:
            held.append(data[0, columns])
        data[:, columns] = held[0]
        return data

    return _changed(deliveries, fault, info, hold)


def channels(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Items come with another number of channels than was declared."""
    count = fault.args["count"]

    def recount(chunk: Chunk) -> Array:
        return np.resize(chunk.data.T, (count, len(chunk))).T.copy()

    return _changed(deliveries, fault, info, recount)


def _restamped(
    deliveries: Deliveries, fault: Fault, info: StreamInfo, stamp: Callable[[int, float], float]
) -> Deliveries:
    """Deliveries whose stamps inside the fault's time are `stamp(item, time_s)`."""
    first, end = edges(fault, info)
    for delivery in deliveries:
        chunk = delivery.what
        if isinstance(chunk, Chunk) and first < delivery.at + len(chunk) and delivery.at < end:
            offset = delivery.at - chunk.first_index
            stamps = tuple(
                (i, stamp(i + offset, t) if first <= i + offset < end else t)
                for i, t in chunk.stamps
            )
            delivery = replace(delivery, what=replace(chunk, stamps=stamps))
        yield delivery


def jitter(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Stamps are off by up to `amount_s` either way, evenly spread."""

    def shake(item: int, time_s: float) -> float:
        noise = float(np.random.default_rng((*seed, item)).uniform(-1.0, 1.0))
        return time_s + float(fault.args["amount_s"]) * noise

    return _restamped(deliveries, fault, info, shake)


def jump(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """The device's clock jumps by `by_s`; after `for_s` it jumps back."""
    return _restamped(deliveries, fault, info, lambda _, time_s: time_s + fault.args["by_s"])


def _stretched(deliveries: Deliveries, fault: Fault, period: float) -> Deliveries:
    """An item takes `period` times as long: what comes later is stamped and delivered later."""

    def extra_s(time_s: float) -> float:
        return (period - 1.0) * min(max(time_s - fault.at_s, 0.0), fault.for_s)

    for delivery in deliveries:
        what, due_s = delivery.what, delivery.due_s
        if isinstance(what, Chunk):
            what = replace(what, stamps=tuple((i, t + extra_s(t)) for i, t in what.stamps))
        yield Delivery(due_s + extra_s(due_s), delivery.at, what)


def drift(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """The device's clock is slow by `ppm` millionths (fast, if negative)."""
    return _stretched(deliveries, fault, 1.0 + fault.args["ppm"] * 1e-6)


def rate(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """The device makes `factor` times as many items a second as it declared."""
    return _stretched(deliveries, fault, 1.0 / fault.args["factor"])
