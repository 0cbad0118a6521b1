"""What a session can be told, verb by verb: its commands, each with its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import BundleError
from engine.lane import Lane
from engine.marks import MarkLane
from engine.ordered import Ordered, teller
from engine.swap import Swap
from engine.types import StreamInfo

__all__ = [
    "ORDERS",
    "adapt",
    "begin",
    "calibrate",
    "connect",
    "end",
    "fail",
    "lost",
    "mark",
    "mute",
    "note",
    "pause",
    "resume",
    "stall",
    "swap",
    "unmute",
    "unstall",
]


def connect(session: Ordered, stream: str, info: StreamInfo) -> None:
    """A source's first contact, or its return; another signature is refused with a diff."""
    slot = session.slots[stream]
    if slot.lane is not None:
        if different := slot.lane.info.difference(info):
            slot.state = "refused"
            session.event("source.refused", stream, {"why": different})
            return
        slot.state = "live"
        session.event("source.back", stream, {})
        return
    try:
        _open_lane(session, stream, info)
    except BundleError as error:
        slot.state = "refused"
        session.event("source.refused", stream, {"why": str(error)})
        session.end_if_over()
        raise
    slot.state = "live"
    session.event("source.connected", stream, {"kind": info.kind, "rate_hz": info.rate_hz})


def _open_lane(session: Ordered, stream: str, info: StreamInfo) -> None:
    slot = session.slots[stream]
    if info.kind == "marker":
        slot.lane = MarkLane(stream, info, slot.stage, session.marker)
        return
    predictor = next((p for p in session.predictors if stream in p.streams), None)
    view = None if predictor is None else predictor.fit(stream, info, teller(session, stream))
    slot.lane = Lane(
        stream, info, view, session.grid, slot.plan.gaps, session.account, slot.stage,
        lambda code, t, detail: session.event(code, stream, detail, t),
        session.fire, lambda: session.now_s, session.tick,
    )  # fmt: skip


def lost(session: Ordered, stream: str, why: str) -> None:
    """The source went away; it may come back."""
    session.slots[stream].state = "lost"
    session.event("source.lost", stream, {"why": why})
    session.fire()


def end(session: Ordered, stream: str) -> None:
    """The source will give no more."""
    session.slots[stream].end()
    session.fire()
    session.end_if_over()


def mark(session: Ordered, value: str, t: float | None = None, stream: str = "control") -> None:
    """Put a marker at `t`, by default at the latest instant that the session knows of."""
    session.marker(value, stream, t)


def stall(session: Ordered, stream: str, silent_s: float) -> None:
    """A live source is silent."""
    session.event("source.stalled", stream, {"silent_s": silent_s})


def unstall(session: Ordered, stream: str) -> None:
    """A silent source speaks again."""
    session.event("source.back", stream, {})


def note(
    session: Ordered, code: str, t: float, detail: dict[str, Any], stream: str | None = None
) -> None:
    """Something happened around the session."""
    session.event(code, stream, detail, t)


def fail(session: Ordered, modality: str, why: str) -> None:
    """A modality's bundle failed to run."""
    session.event("degraded", modality, {"why": why})


def pause(session: Ordered) -> None:
    """Predict nothing until `resume`."""
    session.paused = True


def resume(session: Ordered) -> None:
    """Predict again."""
    session.paused = False


def mute(session: Ordered, stream: str) -> None:
    """Leave a stream's modality out until `unmute`."""
    session.predictor_of(stream).muted = True


def unmute(session: Ordered, stream: str) -> None:
    """Use a stream's modality again."""
    session.predictor_of(stream).muted = False


def calibrate(session: Ordered, stream: str, seconds: float, t: float | None = None) -> None:
    """Learn a person's own level from the `seconds` that begin at `t`, by default now."""
    start_s = session.latest_s() if t is None else t
    session.predictor_of(stream).adapter(stream).calibrate(start_s, seconds)


def swap(session: Ordered, stream: str, swap: Swap) -> None:
    """Another bundle takes the modality of a stream over, from the next tick on."""
    predictor = session.predictor_of(stream)
    before = predictor.bundle
    for lane, view in swap.renewed:
        lane.change(view)
    predictor.change(swap.bundle, swap.slots, swap.turn, swap.fitted)
    now, was = swap.bundle, {"bundle": before.id, "sha256": before.sha256}
    told = {"bundle": now.id, "sha256": now.sha256, "before": was, "anew": list(swap.anew)}
    session.event("bundle.swapped", stream, told)


def adapt(session: Ordered, stream: str, state: Mapping[str, Any]) -> None:
    """Go on from what another session learnt of the person: its `adaptation(stream)`."""
    session.predictor_of(stream).adapter(stream).restore(state)


def begin(session: Ordered, tick: int, numbers: Mapping[str, int], now_s: float) -> None:
    """Go on in the middle of a session: which tick and which numbers come next."""
    session.go_on(tick, numbers, now_s)


ORDERS: Mapping[str, Callable[..., None]] = {
    order.__name__: order
    for order in (
        connect, lost, end, mark, stall, unstall, note, fail,
        pause, resume, mute, unmute, calibrate, adapt, swap, begin,
    )
}  # fmt: skip
