"""Faults on the way from the device: items lost, late, twice or in the wrong order."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.errors import SourceLost
from engine.types import Chunk, StreamInfo
from sources.fault import Deliveries, Fault, Seed, edges, pieces
from sources.playback import Delivery

__all__ = ["duplicate", "gap", "lost", "reorder", "stall"]


@dataclass
class _Loss:
    """What the items that are lost leave behind for the first one after them."""

    rate_hz: float
    label: tuple[str | None] | None = None  # in a tuple, because None is a label too
    stamp: tuple[int, float] | None = None

    def note(self, chunk: Chunk) -> None:
        """Remember the latest label and stamp."""
        self.label = (chunk.truth[-1][1],) if chunk.truth else self.label
        self.stamp = chunk.stamps[-1] if chunk.stamps else self.stamp

    def mend(self, chunk: Chunk) -> Chunk:
        """`chunk` with a stamp and, where labels are known, a label on its first item."""
        first, stamps, truth = chunk.first_index, chunk.stamps, chunk.truth
        if self.stamp is not None and not (stamps and stamps[0][0] == first):
            index, time_s = self.stamp
            stamps = ((first, time_s + (first - index) / self.rate_hz), *stamps)
        if self.label is not None and not (truth and truth[0][0] == first):
            truth = ((first, self.label[0]), *truth)
        return replace(chunk, stamps=stamps, truth=truth)


def gap(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Items get lost on the way: the index jumps by their number."""
    assert info.rate_hz is not None
    loss, losing = _Loss(info.rate_hz), False
    for delivery, chunk, inside in pieces(deliveries, fault, info):
        if chunk is None:
            yield delivery
            continue
        if losing and not inside:
            chunk = loss.mend(chunk)
        losing = inside
        loss.note(chunk)
        if not inside:
            yield replace(delivery, what=chunk)


def lost(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """The device goes away and comes back: a new segment, whose index starts at 0."""
    assert info.rate_hz is not None
    loss, gone = _Loss(info.rate_hz), False
    turn: tuple[int, int] | None = None  # the segment and the index at which it came back
    for delivery, chunk, inside in pieces(deliveries, fault, info):
        if chunk is None:
            yield delivery
        elif inside:
            loss.note(chunk)
            if not gone:
                gone = True
                reason = f"the device was away for {fault.for_s:g} s"
                yield Delivery(fault.at_s, delivery.at, SourceLost(reason))
        elif not gone:
            loss.note(chunk)
            yield delivery
        else:
            if turn is None:
                turn, chunk = (chunk.segment, chunk.first_index), loss.mend(chunk)
            yield replace(delivery, what=_renumbered(chunk, *turn))


def _renumbered(chunk: Chunk, segment: int, index: int) -> Chunk:
    """`chunk` one segment on; where it belongs to `segment`, counted from `index`."""
    base = index if chunk.segment == segment else 0
    return replace(
        chunk,
        segment=chunk.segment + 1,
        first_index=chunk.first_index - base,
        stamps=tuple((i - base, t) for i, t in chunk.stamps),
        truth=tuple((i - base, label) for i, label in chunk.truth),
    )


def stall(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Nothing comes for a while, then all of it at once."""
    end_s = fault.at_s + fault.for_s
    for delivery in deliveries:
        if fault.at_s <= delivery.due_s < end_s:
            delivery = replace(delivery, due_s=end_s)
        yield delivery


def duplicate(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """A chunk comes twice: every one that begins within the time, at least the first."""
    first, end = edges(fault, info)
    n_sent = 0
    for delivery in deliveries:
        yield delivery
        if isinstance(delivery.what, Chunk) and (
            first <= delivery.at < end or (n_sent == 0 and delivery.at >= first)
        ):
            n_sent += 1
            yield delivery


def reorder(deliveries: Deliveries, fault: Fault, info: StreamInfo, seed: Seed) -> Deliveries:
    """Neighbours come in the wrong order: the pairs within the time, at least the first."""
    first, end = edges(fault, info)
    n_swapped = 0
    held: Delivery | None = None
    for delivery in deliveries:
        if held is not None:
            yield delivery
            yield replace(held, due_s=delivery.due_s)
            held = None
        elif isinstance(delivery.what, Chunk) and (
            first <= delivery.at < end or (n_swapped == 0 and delivery.at >= first)
        ):
            n_swapped += 1
            held = delivery
        else:
            yield delivery
    if held is not None:
        yield held
